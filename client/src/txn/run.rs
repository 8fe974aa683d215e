//! Running a transaction until nobody is in its way.

use std::time::Duration;

use super::options::TransactionOptions;
use super::{CommitOutcome, Transaction, TransactionClient};
use crate::error::{Error, Result};

/// The first pause before the next attempt; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

impl<R> TransactionClient<R> {
    /// Runs `work` in an optimistic transaction and commits it; again from a new start if another
    /// transaction was in the way.
    ///
    /// ```
    /// # use anatase_client::{NoRuntime, Result, TransactionClient, TransactionOptions};
    /// # async fn example<R>(client: &TransactionClient<R>) -> Result<()> {
    /// let count = client
    ///     .run(async |txn| {
    ///         let count: u64 = match txn.get("visits").await? {
    ///             Some(value) => String::from_utf8_lossy(&value).parse().unwrap_or(0),
    ///             None => 0,
    ///         };
    ///         txn.put("visits", (count + 1).to_string()).await?;
    ///         Ok(count + 1)
    ///     })
    ///     .await?;
    /// # let _ = count;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// `work` has to be such that it may be run several times: nothing of it that reaches beyond the
    /// transaction is undone.
    ///
    /// # Errors
    /// - Of `work`, whatever it ends with, unless that is a [conflict](Error::is_conflict). The transaction
    ///   is rolled back. For errors of one's own there is [`Error::application`].
    /// - A conflict, if the last attempt ended with one after
    ///   [`Config::with_timeout`](crate::Config::with_timeout) was over.
    /// - An [undetermined](Error::is_undetermined) commit. It is not run again: it may have taken effect.
    ///
    /// # Cancel safety
    /// As [`Transaction::commit`]; what was not committed is rolled back in the background.
    pub async fn run<T>(&self, work: impl AsyncFnMut(&Transaction) -> Result<T>) -> Result<T> {
        self.run_with_options(TransactionOptions::new_optimistic(), work).await
    }

    /// As [`TransactionClient::run`], with what was chosen about the transaction.
    ///
    /// # Errors
    /// As [`TransactionClient::run`].
    pub async fn run_with_options<T>(
        &self,
        options: TransactionOptions,
        mut work: impl AsyncFnMut(&Transaction) -> Result<T>,
    ) -> Result<T> {
        let driver = self.handle.driver.clone();
        let until = driver.now() + self.settings.timeout;
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match self.attempt(&options, &mut work).await {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let start = driver.now();
            if !error.is_conflict() || start + pause >= until {
                return Err(error);
            }
            // Who was in the way is a little later next time, and so is everybody else who was: not all
            // by the same time.
            let part = 500 + driver.draw() % 500;
            let wait = pause.mul_f64(part as f64 / 1_000.0);
            driver.sleep_until(start + wait).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn attempt<T>(
        &self,
        options: &TransactionOptions,
        work: &mut impl AsyncFnMut(&Transaction) -> Result<T>,
    ) -> Result<T> {
        let txn = self.begin_with_options(options.clone()).await?;
        let done = match work(&txn).await {
            Ok(done) => done,
            Err(error) => {
                // What counts is why; what is not released goes when its time is over.
                let _ = txn.rollback().await;
                return Err(error);
            }
        };
        match txn.commit_outcome().await {
            CommitOutcome::Committed { .. } => Ok(done),
            CommitOutcome::Aborted(error) | CommitOutcome::Undetermined(error) => {
                Err::<T, Error>(error)
            }
        }
    }
}
