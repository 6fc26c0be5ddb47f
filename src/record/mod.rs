//! What is recorded. No I/O at all: values, identities, columns, samples and the ledger.
//!
//! Every other room may use this one; it knows none of them. The words are those of the journal
//! itself: a [`Sample`](sample::Sample) is what a sampler saw at one tick, its [`Row`](sample::Row)s
//! are columns described by the [`schema`], and the [`ledger`] says what was seen, left, missed,
//! refused and spent.

pub mod alert;
pub mod alive;
pub mod carried;
pub mod cmd;
pub mod escape;
pub mod event;
pub mod flush;
pub mod identity;
pub mod ledger;
pub mod moment;
pub mod sample;
pub mod schema;
pub mod scrub;
pub mod stream;
pub mod value;
pub mod wanted;
