//! The generated messages are those of `proto/`.
use std::path::Path;

#[test]
fn generated_messages_are_those_of_the_proto_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = ["raddle/v1/rule.proto", "raddle/v1/mesh.proto", "raddle/v1/quota.proto"];
    let set = protox::compile(files, [root.join("proto")]).expect("the proto files compile");
    let out = tempfile::tempdir().expect("a folder");
    tonic_prost_build::configure()
        .out_dir(out.path())
        .bytes(".raddle.v1")
        .compile_fds(set)
        .expect("code is generated");
    let made = std::fs::read_to_string(out.path().join("raddle.v1.rs")).expect("the generated file");
    let kept = root.join("src/proto/raddle.v1.rs");
    if std::env::var_os("RADDLE_BLESS").is_some() {
        std::fs::create_dir_all(kept.parent().expect("a folder")).expect("the folder is made");
        std::fs::write(&kept, &made).expect("it is written");
    }
    let have = std::fs::read_to_string(&kept).unwrap_or_default();
    assert!(
        have == made,
        "crates/xds/src/proto is not what proto/ says: RADDLE_BLESS=1 cargo test -p raddle-xds --test proto"
    );
}
