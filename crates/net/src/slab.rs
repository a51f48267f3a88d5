//! A slab whose keys carry a generation, so that a stale key finds nothing instead of a stranger.

/// Key of a slab entry: index and generation. As an epoll token it is one `u64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// A key that names no entry.
    pub const NONE: Key = Key { index: u32::MAX, generation: u32::MAX };

    /// Index and generation in one word.
    pub const fn to_u64(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }

    /// The key of a word made by [`Key::to_u64`].
    pub const fn from_u64(v: u64) -> Key {
        Key { index: v as u32, generation: (v >> 32) as u32 }
    }
}

struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// Values under generational keys; freed places are used again, last freed first.
pub struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Stores a value.
    pub fn insert(&mut self, value: T) -> Key {
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.value = Some(value);
            return Key { index, generation: slot.generation };
        }
        let index = self.slots.len() as u32;
        self.slots.push(Slot { generation: 0, value: Some(value) });
        Key { index, generation: 0 }
    }

    /// The value of a key that is still live.
    #[inline]
    pub fn get(&self, key: Key) -> Option<&T> {
        let s = self.slots.get(key.index as usize)?;
        if s.generation == key.generation { s.value.as_ref() } else { None }
    }

    /// The value of a key that is still live, for change.
    #[inline]
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let s = self.slots.get_mut(key.index as usize)?;
        if s.generation == key.generation { s.value.as_mut() } else { None }
    }

    /// Takes the value out; the key is dead from then on.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let s = self.slots.get_mut(key.index as usize)?;
        if s.generation != key.generation {
            return None;
        }
        let v = s.value.take()?;
        // u32::MAX is kept for Key::NONE.
        s.generation = if s.generation >= u32::MAX - 1 { 0 } else { s.generation + 1 };
        self.free.push(key.index);
        Some(v)
    }

    /// Number of live entries.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether there is no live entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Live entries in index order.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.slots.iter().enumerate().filter_map(|(i, s)| {
            let key = Key { index: i as u32, generation: s.generation };
            s.value.as_ref().map(|v| (key, v))
        })
    }

    /// Keys of the live entries in index order.
    pub fn keys(&self) -> Vec<Key> {
        self.iter().map(|(k, _)| k).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_finds_nothing() {
        let mut s = Slab::default();
        let a = s.insert("a");
        assert_eq!(s.remove(a), Some("a"));
        let b = s.insert("b");
        assert_ne!(a, b);
        assert_eq!(s.get(a), None);
        assert_eq!(s.remove(a), None);
        assert_eq!(s.get(b), Some(&"b"));
        assert_eq!(s.len(), 1);
        assert_eq!(Key::from_u64(b.to_u64()), b);
        assert_eq!(s.get(Key::NONE), None);
    }
}
