//! Turns the `.proto` files of `anatase-proto` into the Rust that is checked in beside them.
//!
//! Users of the crate need neither `protoc` nor a build script: protox compiles the schema,
//! prost-build writes the types, and a test of this crate fails when the files on disk are not
//! what the schema says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet};

/// What can go wrong, as text for the person at the terminal.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Packages whose singular message fields are boxed unless [`STAYS_INLINE`] says otherwise.
///
/// Their messages travel on the hot path, where most sub-messages are absent most of the time: an
/// error, execution details, a deprecated arm. A box costs a word when absent.
const BOXING_PACKAGES: [&str; 5] = ["kvrpcpb", "errorpb", "pdpb", "coprocessor", "tikvpb"];

/// Message types that are small, or present in nearly every message that has a field for them.
const STAYS_INLINE: [&str; 14] = [
    ".metapb.RegionEpoch",
    ".metapb.Peer",
    ".kvrpcpb.KeyRange",
    ".coprocessor.KeyRange",
    ".pdpb.KeyRange",
    ".pdpb.RequestHeader",
    ".pdpb.ResponseHeader",
    ".pdpb.Timestamp",
    ".pdpb.KeyspaceScope",
    ".apipb.KeyspaceIdentity",
    // Execution details are one box; what nearly every answer fills in them is part of that box.
    ".kvrpcpb.TimeDetail",
    ".kvrpcpb.TimeDetailV2",
    ".kvrpcpb.ScanDetailV2",
    ".kvrpcpb.ScanInfo",
];

/// Message types that are the very subject of an answer of PD, hence inline there.
const SUBJECT_OF_PD: [&str; 2] = [".metapb.Region", ".metapb.Store"];

/// The directory of the `.proto` files.
pub fn schema_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto")
}

/// The directory of the generated files.
pub fn generated_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../src/generated")
}

/// Compiles every `.proto` file of the schema, in the order of their names.
pub fn descriptors() -> Result<FileDescriptorSet, Error> {
    let dir = schema_dir();
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "proto") {
            files.push(path);
        }
    }
    files.sort();
    Ok(protox::compile(&files, [&dir])?)
}

/// Generates everything in memory: file name to text.
pub fn generate() -> Result<BTreeMap<String, String>, Error> {
    let set = descriptors()?;
    let mut config = prost_build::Config::new();
    config.bytes(["."]);
    config.disable_comments(["."]);
    // A map's order must not depend on a hasher: the core promises the same outputs for the same
    // inputs.
    config.btree_map(["."]);
    for path in boxed_fields(&set) {
        config.boxed(path);
    }
    let eq = EqDerives::of(&set);
    for path in &eq.messages {
        config.message_attribute(path, "#[derive(Eq, Hash)]");
    }
    for path in &eq.oneofs {
        config.type_attribute(path, "#[derive(Eq, Hash)]");
    }
    let out = Scratch::new()?;
    config.out_dir(&out.0);
    config.compile_fds(set)?;

    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(&out.0)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).ok_or("odd file name")?;
        files.insert(name.to_owned(), std::fs::read_to_string(&path)?);
    }
    Ok(files)
}

/// Names of the files in [`generated_dir`] that are missing, stale, or of no known package.
pub fn stale(fresh: &BTreeMap<String, String>) -> Result<Vec<String>, Error> {
    let dir = generated_dir();
    let mut names = Vec::new();
    for (name, text) in fresh {
        if std::fs::read_to_string(dir.join(name)).ok().as_ref() != Some(text) {
            names.push(name.clone());
        }
    }
    for name in left_over(fresh)? {
        names.push(name);
    }
    Ok(names)
}

/// Writes the generated files and removes those of packages that are no more.
///
/// Returns the names of the files that changed.
pub fn write(fresh: &BTreeMap<String, String>) -> Result<Vec<String>, Error> {
    let dir = generated_dir();
    std::fs::create_dir_all(&dir)?;
    let changed = stale(fresh)?;
    for name in &changed {
        match fresh.get(name) {
            Some(text) => std::fs::write(dir.join(name), text)?,
            None => std::fs::remove_file(dir.join(name))?,
        }
    }
    Ok(changed)
}

fn left_over(fresh: &BTreeMap<String, String>) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    let Ok(entries) = std::fs::read_dir(generated_dir()) else { return Ok(names) };
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !fresh.contains_key(&name) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Full paths of the fields that are boxed, such as `.kvrpcpb.GetResponse.region_error`.
///
/// Singular message fields outside a oneof only: lists and maps are on the heap already, and a
/// oneof is one alternative that is present.
pub fn boxed_fields(set: &FileDescriptorSet) -> Vec<String> {
    let mut paths = Vec::new();
    for file in &set.file {
        if BOXING_PACKAGES.contains(&file.package()) {
            each_message(file, &mut |name, message| {
                for field in &message.field {
                    let singular_message =
                        field.r#type() == Type::Message && field.label() != Label::Repeated;
                    if singular_message
                        && field.oneof_index.is_none()
                        && !stays_inline(file.package(), field.type_name())
                    {
                        paths.push(format!("{name}.{}", field.name()));
                    }
                }
            });
        }
    }
    paths
}

fn stays_inline(package: &str, type_name: &str) -> bool {
    STAYS_INLINE.contains(&type_name) || (package == "pdpb" && SUBJECT_OF_PD.contains(&type_name))
}

/// Calls `visit` with the full name (`.package.Outer.Inner`) of every message of a file.
pub fn each_message(file: &FileDescriptorProto, visit: &mut dyn FnMut(&str, &DescriptorProto)) {
    fn descend(
        prefix: &str,
        message: &DescriptorProto,
        visit: &mut dyn FnMut(&str, &DescriptorProto),
    ) {
        let name = format!("{prefix}.{}", message.name());
        visit(&name, message);
        for inner in &message.nested_type {
            descend(&name, inner, visit);
        }
    }
    let prefix = format!(".{}", file.package());
    for message in &file.message_type {
        descend(&prefix, message, visit);
    }
}

/// Types that can be `Eq` and `Hash` although prost-build, which stops at lists and maps, does not
/// derive it: all that hold no floating-point number, however deep.
#[derive(Debug, Default)]
struct EqDerives {
    messages: Vec<String>,
    oneofs: Vec<String>,
}

impl EqDerives {
    fn of(set: &FileDescriptorSet) -> Self {
        let mut all = BTreeMap::new();
        for file in &set.file {
            each_message(file, &mut |name, message| {
                all.insert(name.to_owned(), message.clone());
            });
        }
        let mut derives = Self::default();
        for (name, message) in &all {
            if is_map_entry(message) || !exact(&all, &message.field, &mut vec![name]) {
                continue;
            }
            // prost-build applies an attribute to what is nested, too.
            let nested = derives.messages.iter().any(|outer| is_inside(name, outer));
            if !nested && !prost_derives(&all, &message.field) {
                derives.messages.push(name.clone());
            }
            for (index, oneof) in message.oneof_decl.iter().enumerate() {
                let arms: Vec<_> = message
                    .field
                    .iter()
                    .filter(|f| f.oneof_index.is_some_and(|i| usize::try_from(i) == Ok(index)))
                    .cloned()
                    .collect();
                if !prost_derives(&all, &arms) {
                    derives.oneofs.push(format!("{name}.{}", oneof.name()));
                }
            }
        }
        derives
    }
}

fn is_inside(name: &str, outer: &str) -> bool {
    name.strip_prefix(outer).is_some_and(|rest| rest.starts_with('.'))
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(|o| o.map_entry())
}

fn is_float(field: &FieldDescriptorProto) -> bool {
    matches!(field.r#type(), Type::Double | Type::Float)
}

/// Whether no field holds a floating-point number. `open` are the messages being looked into.
fn exact<'a>(
    all: &'a BTreeMap<String, DescriptorProto>,
    fields: &'a [FieldDescriptorProto],
    open: &mut Vec<&'a str>,
) -> bool {
    fields.iter().all(|field| {
        if field.r#type() != Type::Message || open.contains(&field.type_name()) {
            return !is_float(field);
        }
        open.push(field.type_name());
        let verdict = exact(all, &all[field.type_name()].field, open);
        open.pop();
        verdict
    })
}

/// prost-build's own rule. Where the two disagree, the generated code does not compile.
fn prost_derives(all: &BTreeMap<String, DescriptorProto>, fields: &[FieldDescriptorProto]) -> bool {
    fields.iter().all(|field| match field.r#type() {
        Type::Message if field.label() == Label::Repeated => false,
        Type::Message => prost_derives(all, &all[field.type_name()].field),
        _ => !is_float(field),
    })
}

/// A directory for prost-build to write to, removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, Error> {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir =
            std::env::temp_dir().join(format!("anatase-proto-gen-{}-{n}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing depends on its removal.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
