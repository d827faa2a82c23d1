//! The free slots: a bitmap with a cursor, so that fresh logs are written front to back.

/// Slots in use, counted through all log files.
#[derive(Debug, Clone)]
pub(super) struct SlotMap {
    used: Vec<u64>,
    slots: u32,
    /// Slots below this number lie in files that are reserved; the others wait.
    usable: u32,
    free: u32,
    cursor: u32,
}

impl SlotMap {
    /// Starts with `slots` slots of which none can be taken before [`Self::set_usable`].
    pub(super) fn new(slots: u32) -> Self {
        let words = slots.div_ceil(u64::BITS);
        let used = std::iter::repeat_n(0, words.try_into().expect("a u32 is a usize")).collect();
        Self { used, slots, usable: 0, free: 0, cursor: 0 }
    }

    /// Lets the first `slots` slots be taken.
    pub(super) fn set_usable(&mut self, slots: u32) {
        let slots = slots.min(self.slots);
        // Called once for each file: only what is new is counted.
        let (kept, from) = if slots >= self.usable { (self.free, self.usable) } else { (0, 0) };
        let fresh = (from..slots).filter(|slot| !self.is_used(*slot)).count();
        self.free = kept + u32::try_from(fresh).expect("no more than all slots");
        self.usable = slots;
    }

    /// Returns how many slots can be taken.
    pub(super) const fn free(&self) -> u32 {
        self.free
    }

    /// Returns whether more slots become usable later.
    pub(super) const fn is_waiting(&self) -> bool {
        self.usable < self.slots
    }

    /// Allocates a free slot: the one that follows the last one, wherever that is free.
    pub(super) fn take(&mut self) -> Option<u32> {
        if self.free == 0 {
            return None;
        }
        let slot = self
            .next_free(self.cursor, self.usable)
            .or_else(|| self.next_free(0, self.cursor.min(self.usable)))?;
        self.mark(slot);
        self.cursor = slot + 1;
        Some(slot)
    }

    /// Marks a slot as used.
    pub(super) fn mark(&mut self, slot: u32) {
        if slot < self.slots && !self.is_used(slot) {
            if let Some(word) = self.word(slot) {
                *word |= 1 << (slot % u64::BITS);
            }
            if slot < self.usable {
                self.free -= 1;
            }
        }
    }

    /// Gives a slot back.
    pub(super) fn release(&mut self, slot: u32) {
        if self.is_used(slot) {
            if let Some(word) = self.word(slot) {
                *word &= !(1 << (slot % u64::BITS));
            }
            if slot < self.usable {
                self.free += 1;
            }
        }
    }

    /// Returns whether a slot is taken or marked.
    pub(super) fn is_used(&self, slot: u32) -> bool {
        self.get(slot / u64::BITS).is_some_and(|word| word >> (slot % u64::BITS) & 1 == 1)
    }

    fn next_free(&self, from: u32, to: u32) -> Option<u32> {
        let mut slot = from;
        while slot < to {
            let taken = self.get(slot / u64::BITS)? >> (slot % u64::BITS);
            let candidate = slot + taken.trailing_ones();
            if taken.trailing_ones() < u64::BITS - slot % u64::BITS {
                return (candidate < to).then_some(candidate);
            }
            slot = (slot / u64::BITS + 1) * u64::BITS;
        }
        None
    }

    fn get(&self, word: u32) -> Option<u64> {
        self.used.get(usize::try_from(word).ok()?).copied()
    }

    fn word(&mut self, slot: u32) -> Option<&mut u64> {
        self.used.get_mut(usize::try_from(slot / u64::BITS).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_taken_in_order_and_only_where_reserved() {
        let mut map = SlotMap::new(130);
        assert_eq!(map.take(), None);
        map.set_usable(65);
        let taken: Vec<_> = std::iter::from_fn(|| map.take()).collect();
        assert_eq!(taken, (0..65).collect::<Vec<_>>());
        assert!(map.is_waiting());
        map.set_usable(1000);
        assert_eq!(std::iter::from_fn(|| map.take()).count(), 65);
        assert!(!map.is_waiting());
    }

    #[test]
    fn a_released_slot_is_found_again_after_the_end() {
        let mut map = SlotMap::new(200);
        map.set_usable(200);
        while map.take().is_some() {}
        for slot in [0, 63, 64, 127, 128, 199] {
            map.release(slot);
            map.release(slot);
            assert_eq!(map.take(), Some(slot));
            assert_eq!(map.take(), None);
        }
    }
}
