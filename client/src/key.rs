//! Keys, values and pairs as the application sees them.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;

use bytes::Bytes;

/// A value: any bytes, also none. Cheap to clone; usually a slice of the frame it arrived in.
pub type Value = Bytes;

/// A key: any bytes, ordered bytewise. Cheap to clone.
///
/// `Debug` shows it with escapes; there is no `Display`, so that keys do not slip into messages.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Bytes);

impl Key {
    /// The empty key, which comes before all others.
    pub const EMPTY: Self = Self(Bytes::new());

    /// A key in static memory; copies nothing.
    pub const fn from_static(key: &'static [u8]) -> Self {
        Self(Bytes::from_static(key))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Its bytes, without copying.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// The smallest key after this one.
    #[must_use]
    pub fn next(&self) -> Self {
        Self(anatase_core::next_key(&self.0))
    }
}

impl Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key(\"{}\")", self.0.escape_ascii())
    }
}

/// What can become a [`Value`]. Owned bytes are taken as they are, borrowed ones are copied.
pub trait IntoValue {
    /// The value.
    fn into_value(self) -> Value;
}

macro_rules! from_bytes {
    ($($(#[$doc:meta])* [$($param:tt)*] $from:ty: $owned:expr;)*) => {$(
        $(#[$doc])*
        impl<$($param)*> From<$from> for Key {
            fn from(bytes: $from) -> Self {
                let owned: fn($from) -> Bytes = $owned;
                Self(owned(bytes))
            }
        }

        impl<$($param)*> IntoValue for $from {
            fn into_value(self) -> Value {
                let owned: fn($from) -> Bytes = $owned;
                owned(self)
            }
        }
    )*};
}

from_bytes! {
    [] Bytes: |b| b;
    [] Vec<u8>: Bytes::from;
    [] Box<[u8]>: Bytes::from;
    [] String: Bytes::from;
    [const N: usize] [u8; N]: |b| Bytes::copy_from_slice(&b);
    ['a] &'a Bytes: Bytes::clone;
    ['a] &'a Vec<u8>: |b| Bytes::copy_from_slice(b);
    ['a] &'a String: |b| Bytes::copy_from_slice(b.as_bytes());
    ['a] &'a str: |b| Bytes::copy_from_slice(b.as_bytes());
    ['a] &'a [u8]: Bytes::copy_from_slice;
    ['a, const N: usize] &'a [u8; N]: |b| Bytes::copy_from_slice(b);
}

impl From<&Key> for Key {
    fn from(key: &Key) -> Self {
        key.clone()
    }
}

impl From<Key> for Bytes {
    fn from(key: Key) -> Self {
        key.0
    }
}

impl From<Key> for Vec<u8> {
    fn from(key: Key) -> Self {
        key.0.into()
    }
}

macro_rules! equals {
    ($([$($param:tt)*] $other:ty;)*) => {$(
        impl<$($param)*> PartialEq<$other> for Key {
            fn eq(&self, other: &$other) -> bool {
                let other: &[u8] = other.as_ref();
                self.0 == other
            }
        }
    )*};
}

equals! {
    [] [u8];
    [] str;
    [] &[u8];
    [] &str;
    [] Vec<u8>;
    [] String;
    [] Bytes;
    [const N: usize] [u8; N];
    [const N: usize] &[u8; N];
}

/// A key and its value.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KvPair(pub Key, pub Value);

impl KvPair {
    /// A pair.
    pub fn new(key: impl Into<Key>, value: impl IntoValue) -> Self {
        Self(key.into(), value.into_value())
    }

    /// The key.
    pub fn key(&self) -> &Key {
        &self.0
    }

    /// The value.
    pub fn value(&self) -> &Value {
        &self.1
    }

    /// The key, without the value.
    pub fn into_key(self) -> Key {
        self.0
    }

    /// The value, without the key.
    pub fn into_value(self) -> Value {
        self.1
    }

    /// The key, to change.
    pub fn key_mut(&mut self) -> &mut Key {
        &mut self.0
    }

    /// The value, to change.
    pub fn value_mut(&mut self) -> &mut Value {
        &mut self.1
    }

    /// Replaces the key.
    pub fn set_key(&mut self, key: impl Into<Key>) {
        self.0 = key.into();
    }

    /// Replaces the value.
    pub fn set_value(&mut self, value: impl IntoValue) {
        self.1 = value.into_value();
    }
}

impl<K: Into<Key>, V: IntoValue> From<(K, V)> for KvPair {
    fn from((key, value): (K, V)) -> Self {
        Self::new(key, value)
    }
}

impl From<KvPair> for (Key, Value) {
    fn from(pair: KvPair) -> Self {
        (pair.0, pair.1)
    }
}

impl From<anatase_core::KvPair> for KvPair {
    fn from(pair: anatase_core::KvPair) -> Self {
        Self(Key(pair.key), pair.value)
    }
}

impl From<KvPair> for anatase_core::KvPair {
    fn from(pair: KvPair) -> Self {
        Self { key: pair.0.0, value: pair.1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_from_all_kinds_of_bytes() {
        let slice: &[u8] = b"k";
        let text = String::from("k");
        for key in [
            Key::from("k"),
            Key::from(slice),
            Key::from(b"k"),
            Key::from(*b"k"),
            Key::from(text.clone()),
            Key::from(&text),
            Key::from(vec![b'k']),
            Key::from(Bytes::from_static(b"k")),
            Key::from_static(b"k"),
            Key::from(&Key::from("k")),
        ] {
            assert_eq!(key, "k");
            assert_eq!(key, *b"k");
        }
    }

    #[test]
    fn debug_escapes_and_order_is_bytewise() {
        assert_eq!(format!("{:?}", Key::from(b"a\x00\xff\"")), r#"Key("a\x00\xff\"")"#);
        let sorted: Vec<Key> =
            vec![Key::EMPTY, [0].into(), "a".into(), Key::from("a").next(), "aa".into()];
        assert!(sorted.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn a_map_of_keys_is_searched_by_slice() {
        let map = std::collections::BTreeMap::from([(Key::from("k"), 1)]);
        assert_eq!(map.get(&b"k"[..]), Some(&1));
    }
}
