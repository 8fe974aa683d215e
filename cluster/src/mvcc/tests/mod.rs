//! The rules of transactions.md §20 and the mock engine's cases (cases.md W), row by row; and reads
//! against a model.

mod finish;
mod history;
mod model;
mod pessimistic;
mod pessimistic_end;
mod prewrite;
mod read;
mod secondary;
mod status;
mod store;
mod ways;
