//! Secrets at rest.
use raddle_identity::{SealError, SealKey};
use std::os::unix::fs::PermissionsExt;

#[test]
fn what_is_sealed_opens_with_the_same_key_for_the_same_purpose_only() {
    let key = SealKey::new(&[7; 32]).unwrap();
    let envelope = key.seal("ca/1", b"secret").unwrap();
    assert_eq!(&key.open("ca/1", &envelope).unwrap()[..], b"secret");
    assert_eq!(key.open("ca/2", &envelope).unwrap_err(), SealError::Damaged);
    assert_ne!(envelope, key.seal("ca/1", b"secret").unwrap());
    assert!(!envelope.windows(6).any(|w| w == b"secret"));
    for at in 0..envelope.len() {
        let mut changed = envelope.clone();
        changed[at] ^= 1;
        assert!(key.open("ca/1", &changed).is_err(), "byte {at}");
        assert!(key.open("ca/1", &envelope[..at]).is_err(), "{at} bytes");
    }
    let other = SealKey::new(&[8; 32]).unwrap();
    let said = other.open("ca/1", &envelope).unwrap_err().to_string();
    assert!(
        said.contains(&key.id()) && said.contains(&other.id()) && said.contains("give the file"),
        "{said}"
    );
}

#[test]
fn key_files_are_made_for_their_owner_and_refused_when_everybody_reads_them() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("seal.key");
    let made = SealKey::load_or_create(&file).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(SealKey::load_or_create(&file).unwrap().id(), made.id());
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
    assert!(matches!(SealKey::load(&file), Err(SealError::Open(_, 0o644))));
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::write(&file, [1; 31]).unwrap();
    assert_eq!(SealKey::load(&file).unwrap_err(), SealError::Short(31));
    std::fs::write(&file, "a pass phrase in a file, of any length that is long enough").unwrap();
    SealKey::load(&file).unwrap();
    assert!(matches!(SealKey::load(&dir.path().join("none")), Err(SealError::File(..))));
    assert_eq!(format!("{made:?}"), format!("SealKey({})", made.id()));
}
