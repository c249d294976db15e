//! What several subjects share.

pub mod dice;
pub mod manual_clock;
pub mod model;
