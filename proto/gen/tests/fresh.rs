//! The checked-in types are what the schema says.

use anatase_proto_gen::{generate, stale};

#[test]
fn generated_code_is_current() {
    let fresh = generate().expect("the schema compiles");
    let stale = stale(&fresh).expect("the generated files can be read");
    assert!(stale.is_empty(), "run `cargo run -p anatase-proto-gen`; stale: {stale:?}");
}

#[test]
fn generation_is_deterministic() {
    assert_eq!(generate().expect("first"), generate().expect("second"));
}
