//! The place between two threads that holds one value: the newest. Values change places with the reader's and the
//! writer's own, so that their buffers go round and nothing is allocated.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A slot for one value.
#[derive(Debug, Default)]
pub struct Slot<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State<T> {
    value: T,
    fresh: bool,
    closed: bool,
}

/// What [`Slot::take_within`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// A value that was not taken before.
    Fresh,
    /// None came in time.
    Nothing,
    /// The slot is closed and its last value was taken.
    Closed,
}

impl<T> Slot<T> {
    /// Puts `value` in, in place of one that nobody took, and gives that one back in `value`; `false` when the slot is
    /// closed.
    pub fn replace(&self, value: &mut T) -> bool {
        self.put(self.lock(), value)
    }

    /// Waits until the slot's value was taken and then puts `value` in; `false` when the slot is closed.
    pub fn hand_over(&self, value: &mut T) -> bool {
        let waiting = |state: &mut State<T>| state.fresh && !state.closed;
        let state = self
            .changed
            .wait_while(self.lock(), waiting)
            .unwrap_or_else(PoisonError::into_inner);
        self.put(state, value)
    }

    fn put(&self, mut state: MutexGuard<'_, State<T>>, value: &mut T) -> bool {
        if state.closed {
            return false;
        }
        std::mem::swap(&mut state.value, value);
        state.fresh = true;
        drop(state);
        self.changed.notify_all();
        true
    }

    /// Waits for a fresh value and exchanges `value` for it; `false` when the slot is closed and empty.
    pub fn take(&self, value: &mut T) -> bool {
        let waiting = |state: &mut State<T>| !state.fresh && !state.closed;
        let state = self
            .changed
            .wait_while(self.lock(), waiting)
            .unwrap_or_else(PoisonError::into_inner);
        self.get(state, value) == Taken::Fresh
    }

    /// As [`Slot::take`], for at most `limit`.
    pub fn take_within(&self, value: &mut T, limit: Duration) -> Taken {
        let waiting = |state: &mut State<T>| !state.fresh && !state.closed;
        let (state, _) = self
            .changed
            .wait_timeout_while(self.lock(), limit, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        self.get(state, value)
    }

    fn get(&self, mut state: MutexGuard<'_, State<T>>, value: &mut T) -> Taken {
        if state.fresh {
            std::mem::swap(&mut state.value, value);
            state.fresh = false;
            drop(state);
            self.changed.notify_all();
            Taken::Fresh
        } else if state.closed {
            Taken::Closed
        } else {
            Taken::Nothing
        }
    }

    /// Ends the exchange: writers are refused from now on, the reader still gets the last value.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Waits until `deadline` or until the slot is closed; whether it is open.
    pub fn is_open_until(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let (state, _) = self
            .changed
            .wait_timeout_while(self.lock(), left, |state| !state.closed)
            .unwrap_or_else(PoisonError::into_inner);
        !state.closed
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Values change places whole: a thread that panicked left none half-written.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn the_newest_value_wins() {
        let slot = Slot::default();
        for mut value in 1..=5 {
            assert!(slot.replace(&mut value));
        }
        let mut value = 0;
        assert_eq!(slot.take_within(&mut value, Duration::ZERO), Taken::Fresh);
        assert_eq!(value, 5);
        assert_eq!(slot.take_within(&mut value, Duration::ZERO), Taken::Nothing);
    }

    #[test]
    fn values_that_are_handed_over_all_arrive() {
        let slot = Slot::default();
        let received = thread::scope(|scope| {
            scope.spawn(|| {
                for mut value in 1..=200u32 {
                    assert!(slot.hand_over(&mut value));
                }
                slot.close();
            });
            let (mut received, mut value) = (Vec::new(), 0);
            while slot.take(&mut value) {
                received.push(value);
            }
            received
        });
        assert_eq!(received, (1..=200).collect::<Vec<u32>>());
    }

    #[test]
    fn a_slow_reader_sees_rising_values_and_the_last_one() {
        let slot = Slot::default();
        let received = thread::scope(|scope| {
            scope.spawn(|| {
                for mut value in 1..=100u32 {
                    slot.replace(&mut value);
                    thread::sleep(Duration::from_micros(100));
                }
                slot.close();
            });
            let (mut received, mut value) = (Vec::new(), 0);
            while slot.take(&mut value) {
                received.push(value);
                thread::sleep(Duration::from_millis(2));
            }
            received
        });
        assert!(received.is_sorted_by(|a, b| a < b), "{received:?}");
        assert!(received.len() < 100 && received.last() == Some(&100));
    }

    #[test]
    fn buffers_go_round() {
        let slot: Slot<Vec<u8>> = Slot::default();
        let (mut writer, mut reader) = (Vec::with_capacity(100), Vec::with_capacity(200));
        slot.replace(&mut writer);
        assert!(slot.take(&mut reader));
        assert_eq!((writer.capacity(), reader.capacity()), (0, 100));
        slot.replace(&mut writer);
        assert_eq!(writer.capacity(), 200);
    }

    #[test]
    fn closing_wakes_whoever_waits() {
        let slot: Slot<u8> = Slot::default();
        thread::scope(|scope| {
            let reader = scope.spawn(|| slot.take(&mut 0));
            let pacer =
                scope.spawn(|| slot.is_open_until(Instant::now() + Duration::from_secs(60)));
            thread::sleep(Duration::from_millis(20));
            slot.close();
            assert!(!reader.join().expect("reader") && !pacer.join().expect("pacer"));
        });
        assert!(!slot.replace(&mut 1) && !slot.hand_over(&mut 1));
        let open: Slot<u8> = Slot::default();
        assert!(open.is_open_until(Instant::now()));
    }
}
