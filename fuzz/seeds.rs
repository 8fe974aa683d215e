//! Writes the seeds that the bodies make to `fuzz/corpus/<target>/`: `fuzz/run seeds`.
#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;

fn main() -> std::io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let of_core =
        ["machine", "core", "wire", "codec"].map(|name| (name, anatase_core::fuzz::seeds(name)));
    for (target, seeds) in of_core.into_iter().chain([("txn", anatase_sim::fuzz::seeds())]) {
        fs::create_dir_all(corpus.join(target))?;
        for (index, seed) in seeds.iter().enumerate() {
            fs::write(corpus.join(target).join(format!("{index:02}")), seed)?;
        }
    }
    Ok(())
}
