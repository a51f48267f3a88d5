//! Places for what requests under way hold, found by a number that never means another request.

/// Places that are used again; a key knows which use of a place it is for.
#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Place<T> {
    /// Odd while in use.
    uses: u32,
    value: T,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab { places: Vec::new(), free: Vec::new() }
    }
}

impl<T: Default> Slab<T> {
    /// A place as it was left, and its key, which is never 0. Allocates only where more are in use than ever before.
    pub(super) fn place(&mut self) -> (u64, &mut T) {
        let i = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { uses: 0, value: T::default() });
            self.places.len() as u32 - 1
        });
        let place = &mut self.places[i as usize];
        place.uses = place.uses.wrapping_add(1);
        (u64::from(i) << 32 | u64::from(place.uses), &mut place.value)
    }

    /// What is in use under this key.
    pub(super) fn find(&mut self, key: u64) -> Option<&mut T> {
        let place = self.places.get_mut((key >> 32) as usize)?;
        (place.uses == key as u32 && place.uses % 2 == 1).then_some(&mut place.value)
    }

    /// Ends a use; the place's value stays for the next one to use.
    pub(super) fn free(&mut self, key: u64) {
        let i = (key >> 32) as u32;
        if let Some(place) = self.places.get_mut(i as usize)
            && place.uses == key as u32
            && place.uses % 2 == 1
        {
            place.uses = place.uses.wrapping_add(1);
            self.free.push(i);
        }
    }

    /// All that is in use.
    pub(super) fn used(&mut self) -> impl Iterator<Item = &mut T> {
        self.places.iter_mut().filter(|p| p.uses % 2 == 1).map(|p| &mut p.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_means_one_use_of_a_place() {
        let mut slab = Slab::<u32>::default();
        let (first, value) = slab.place();
        *value = 7;
        assert!(first != 0 && slab.find(first) == Some(&mut 7));
        slab.free(first);
        slab.free(first);
        assert_eq!(slab.find(first), None);
        let (second, _) = slab.place();
        let (third, _) = slab.place();
        assert!(second != first && third >> 32 != second >> 32, "freed twice, given once");
        slab.free(first);
        assert!(slab.find(second).is_some() && slab.find(0).is_none() && slab.find(u64::MAX).is_none());
        assert_eq!(slab.used().count(), 2);
    }
}
