//! A clock as a driver sees it.

use crate::{
    clock::Clock,
    model::Moment,
    subscription::{Now, Time},
};

/// A clock as a driver sees it.
pub(crate) struct ClockTime<'a>(pub(crate) &'a dyn Clock);

impl Time for ClockTime<'_> {
    fn now(&self) -> Now {
        Now {
            wall: self.0.now(),
            elapsed: self.0.elapsed(),
        }
    }

    fn moment(&self) -> Moment {
        self.0.moment()
    }
}
