//! `BatchCommands`: many commands in one message, answered in any order (wire.md §2.2).
//!
//! Commands are executed in the order they stand in the message, as if each had come by itself;
//! faults and checks are those of the call that a command stands for. A command whose answer is
//! lost silently is left out; one that is lost with its connection ends the stream, and so does a
//! gRPC status, for which a command has no place. A request for another cluster ends the stream
//! too. An entry without a command is answered by an entry without one.

use std::time::Duration;

use anatase_proto::{
    coprocessor::Response as CoprocessorResponse,
    kvrpcpb::{
        BufferBatchGetResponse, FlashbackToVersionResponse, FlushResponse, GcResponse,
        ImportResponse, KeyError as WireKeyError, PrepareFlashbackToVersionResponse,
    },
    prost::Message,
    tikvpb::{
        BatchCommandsEmptyResponse, BatchCommandsRequest, BatchCommandsResponse,
        batch_commands_request, batch_commands_request::request::Cmd as Asked,
        batch_commands_response, batch_commands_response::response::Cmd as Answered,
    },
};
use bytes::Bytes;

use crate::{
    Cluster,
    answer::{Answer, Code, Failure, Loss, Status},
    lock_wait::{Served, Ticket},
    mvcc::KeyError,
    store::StoreId,
};

/// What becomes of one message of a `BatchCommands` stream.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchAnswer {
    /// Messages to send back, each so much later. At most one is without delay, and then it is the
    /// first.
    pub messages: Vec<BatchMessage>,
    /// How the stream ends after this, if it does: of what is to be sent later nothing arrives.
    pub end: Option<Failure>,
    /// Commands that wait for a lock: by their number in the message, what
    /// [`Cluster::take_woken`] will call them. Only of [`Cluster::handle_batch_or_park`].
    pub parked: Vec<(u64, Ticket)>,
}

/// One message back.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchMessage {
    /// How much later than a healthy server it is sent.
    pub delay: Duration,
    /// The message.
    pub response: BatchCommandsResponse,
}

impl BatchAnswer {
    fn ended(failure: impl Into<Failure>) -> Self {
        BatchAnswer { messages: Vec::new(), end: Some(failure.into()), parked: Vec::new() }
    }
}

/// Commands that are calls of the table in [`crate::call`], and how those that are not are
/// refused: in the response, because a stream goes on.
macro_rules! commands {
    (
        $(served $command:ident;)*
        $(refused $refused:ident $response:ident, $field:ident = $text:ident => $error:expr;)*
    ) => {
        fn execute(cluster: &mut Cluster, at: StoreId, asked: Asked) -> Served<Answered> {
            match asked {
                $(Asked::$command(request) => {
                    cluster.call_or_park(at, request).map(Answered::$command)
                })*
                $(Asked::$refused(_) => {
                    let $text = Status::unmodelled(stringify!($refused)).message;
                    Served::Answered(Answer::now(Ok(Answered::$refused($response {
                        $field: $error,
                        ..Default::default()
                    }))))
                })*
                Asked::Empty(request) => Served::Answered(Answer {
                    result: Ok(Answered::Empty(BatchCommandsEmptyResponse {
                        test_id: request.test_id,
                    })),
                    delay: Duration::from_millis(request.delay_time),
                }),
            }
        }
    };
}

commands! {
    served Get;
    served Scan;
    served Prewrite;
    served PessimisticLock;
    served PessimisticRollback;
    served Commit;
    served Cleanup;
    served BatchGet;
    served BatchRollback;
    served ScanLock;
    served ResolveLock;
    served DeleteRange;
    served RawGet;
    served RawBatchGet;
    served RawPut;
    served RawBatchPut;
    served RawDelete;
    served RawBatchDelete;
    served RawScan;
    served RawDeleteRange;
    served RawBatchScan;
    served RawCoprocessor;
    served CheckTxnStatus;
    served CheckSecondaryLocks;
    served TxnHeartBeat;
    served GetHealthFeedback;
    served BroadcastTxnStatus;
    refused Import ImportResponse, error = text => text;
    refused Gc GcResponse, error = text => abort(text);
    refused Coprocessor CoprocessorResponse, other_error = text => text;
    refused FlashbackToVersion FlashbackToVersionResponse, error = text => text;
    refused PrepareFlashbackToVersion PrepareFlashbackToVersionResponse, error = text => text;
    refused Flush FlushResponse, errors = text => aborts(text);
    refused BufferBatchGet BufferBatchGetResponse, error = text => abort(text);
}

fn abort(text: String) -> Option<Box<WireKeyError>> {
    KeyError::Abort(text).boxed()
}

fn aborts(text: String) -> Vec<WireKeyError> {
    vec![KeyError::Abort(text).to_proto()]
}

impl Cluster {
    /// Serves one message of a `BatchCommands` stream to a store.
    pub fn handle_batch(&mut self, store: StoreId, request: Bytes) -> BatchAnswer {
        let answer = self.handle_batch_or_park(store, request);
        self.unpark(answer)
    }

    /// [`Cluster::handle_batch`], for a caller that can wait: see [`Cluster::handle_or_park`].
    pub fn handle_batch_or_park(&mut self, store: StoreId, request: Bytes) -> BatchAnswer {
        match BatchCommandsRequest::decode(request) {
            Ok(request) => self.execute_batch(store, request),
            Err(error) => BatchAnswer::ended(Status::new(Code::Internal, error.to_string())),
        }
    }

    /// Serves one message of a `BatchCommands` stream to a store, as a typed request.
    pub fn call_batch(&mut self, store: StoreId, request: BatchCommandsRequest) -> BatchAnswer {
        let answer = self.execute_batch(store, request);
        self.unpark(answer)
    }

    /// Answers what is parked as if it had waited in vain.
    fn unpark(&mut self, mut answer: BatchAnswer) -> BatchAnswer {
        for (id, ticket) in std::mem::take(&mut answer.parked) {
            let Answer { result, delay } = self.withdraw(ticket);
            if let Ok(response) = result {
                let cmd = Some(Answered::PessimisticLock(response));
                answer.push(delay, id, batch_commands_response::Response { cmd });
            }
        }
        answer
    }

    fn execute_batch(&mut self, store: StoreId, request: BatchCommandsRequest) -> BatchAnswer {
        if let Some(refused) = self.refuse_connection(store) {
            return BatchAnswer::ended(refused);
        }
        let mut answer = BatchAnswer { messages: Vec::new(), end: None, parked: Vec::new() };
        let mut feedback = None;
        for (id, entry) in request.request_ids.into_iter().zip(request.requests) {
            let batch_commands_request::Request { cmd: asked } = entry;
            let executed = match asked.map(|asked| execute(self, store, asked)) {
                Some(Served::Answered(executed)) => executed.map(Some),
                Some(Served::Parked(ticket)) => {
                    answer.parked.push((id, ticket));
                    continue;
                }
                None => Answer::now(Ok(None)),
            };
            match executed.result {
                Ok(cmd) => {
                    if let Some(Answered::GetHealthFeedback(response)) = &cmd {
                        feedback = response.health_feedback.clone();
                    }
                    answer.push(executed.delay, id, batch_commands_response::Response { cmd });
                }
                Err(Failure::Lost(Loss::Silent)) => {}
                Err(end) => {
                    answer.end = Some(end);
                    break;
                }
            }
        }
        // Clients read the feedback from the message, not from the command that asked for it.
        if feedback.is_some()
            && let Some(first) = answer.messages.first_mut()
        {
            first.response.health_feedback = feedback;
        }
        answer
    }
}

impl BatchAnswer {
    fn push(&mut self, delay: Duration, id: u64, response: batch_commands_response::Response) {
        let at = match self.messages.iter().position(|message| message.delay == delay) {
            Some(at) => at,
            None => {
                let at = if delay.is_zero() { 0 } else { self.messages.len() };
                let response = BatchCommandsResponse::default();
                self.messages.insert(at, BatchMessage { delay, response });
                at
            }
        };
        let message = &mut self.messages[at].response;
        message.request_ids.push(id);
        message.responses.push(response);
    }
}

#[cfg(test)]
mod tests {
    use anatase_proto::kvrpcpb::{
        CheckSecondaryLocksRequest, FlushRequest, GetHealthFeedbackRequest, RawGetRequest,
        RawPutRequest,
    };
    use anatase_proto::tikvpb::BatchCommandsEmptyRequest;

    use super::*;
    use crate::{Fault, On, RegionFault, testing::key, testing::small};

    fn send(cluster: &mut Cluster, of: Vec<(u64, Option<Asked>)>) -> BatchAnswer {
        let (request_ids, requests) =
            of.into_iter().map(|(id, cmd)| (id, batch_commands_request::Request { cmd })).unzip();
        cluster.call_batch(1, BatchCommandsRequest { requests, request_ids, ..Default::default() })
    }

    fn get(cluster: &Cluster, name: &str) -> Option<Asked> {
        let region = cluster.region_of_raw(name.as_bytes()).unwrap().id;
        let context = Some(Box::new(cluster.context_for(region)));
        Some(Asked::RawGet(RawGetRequest { context, key: key(name), ..Default::default() }))
    }

    fn put(cluster: &Cluster, name: &str) -> Option<Asked> {
        let region = cluster.region_of_raw(name.as_bytes()).unwrap().id;
        let context = Some(Box::new(cluster.context_for(region)));
        Some(Asked::RawPut(RawPutRequest { context, key: key(name), ..Default::default() }))
    }

    fn ids(answer: &BatchAnswer) -> Vec<Vec<u64>> {
        answer.messages.iter().map(|message| message.response.request_ids.clone()).collect()
    }

    #[test]
    fn commands_are_executed_in_order_and_answered_by_id() {
        let mut cluster = small();
        let (write, read) = (put(&cluster, "k"), get(&cluster, "k"));
        let answer = send(&mut cluster, vec![(9, read.clone()), (7, write), (8, read), (5, None)]);
        assert_eq!((ids(&answer), &answer.end), (vec![vec![9, 7, 8, 5]], &None));
        let responses = &answer.messages[0].response.responses;
        let found = |at: usize| match &responses[at].cmd {
            Some(Answered::RawGet(response)) => !response.not_found,
            other => panic!("{other:?}"),
        };
        assert_eq!((found(0), found(2)), (false, true));
        assert_eq!(responses[3].cmd, None, "an entry without a command");
    }

    #[test]
    fn each_command_meets_its_own_fault() {
        let mut cluster = small();
        let mut reads = |fault: Fault| {
            cluster.faults().next(On::any().after(1), fault);
            let read = get(&cluster, "k");
            let answer = send(&mut cluster, vec![(1, read.clone()), (2, read.clone()), (3, read)]);
            cluster.faults().clear();
            answer
        };
        let answer = reads(Fault::DropRequest(Loss::Silent));
        assert_eq!((ids(&answer), answer.end), (vec![vec![1, 3]], None));
        let answer = reads(Fault::Delay(Duration::from_secs(1)));
        assert_eq!(ids(&answer), [vec![1, 3], vec![2]]);
        assert_eq!(answer.messages[1].delay, Duration::from_secs(1));
        let answer = reads(Fault::DropResponse(Loss::Reset));
        assert_eq!(ids(&answer), [vec![1]]);
        assert_eq!(answer.end, Some(Failure::Lost(Loss::Reset)));
        let answer = reads(RegionFault::StaleCommand.into());
        assert_eq!(ids(&answer), [vec![1, 2, 3]]);
    }

    #[test]
    fn another_clusters_id_ends_the_stream() {
        let mut cluster = small();
        let mut read = get(&cluster, "k");
        if let Some(Asked::RawGet(request)) = &mut read {
            request.context.as_mut().unwrap().cluster_id = 5;
        }
        let answer = send(&mut cluster, vec![(1, read)]);
        let Some(Failure::Status(status)) = answer.end else { panic!() };
        assert_eq!(status.code, Code::InvalidArgument);
    }

    #[test]
    fn what_is_not_modelled_says_so_and_the_stream_goes_on() {
        let mut cluster = small();
        let flush = Some(Asked::Flush(FlushRequest::default()));
        let answer = send(&mut cluster, vec![(1, flush)]);
        let Some(Answered::Flush(response)) = &answer.messages[0].response.responses[0].cmd else {
            panic!()
        };
        assert!(response.errors[0].abort.contains("not modelled"));
        assert_eq!(answer.end, None);
    }

    #[test]
    fn secondary_locks_are_checked_in_a_stream_too() {
        let mut cluster = small();
        let region = cluster.region_of(b"k").unwrap().id;
        let request = CheckSecondaryLocksRequest {
            context: Some(Box::new(cluster.context_for(region))),
            keys: vec![key("k")],
            start_version: 10,
        };
        let answer = send(&mut cluster, vec![(1, Some(Asked::CheckSecondaryLocks(request)))]);
        let answered = &answer.messages[0].response.responses[0].cmd;
        assert_eq!(*answered, Some(Answered::CheckSecondaryLocks(Default::default())));
        assert_eq!(cluster.writes("k").len(), 1, "rolled back");
    }

    #[test]
    fn probes_and_health() {
        let mut cluster = small();
        let probe = Asked::Empty(BatchCommandsEmptyRequest { test_id: 3, delay_time: 20 });
        let ask = Asked::GetHealthFeedback(GetHealthFeedbackRequest::default());
        let answer = send(&mut cluster, vec![(1, Some(probe)), (2, Some(ask))]);
        assert_eq!(ids(&answer), [vec![2], vec![1]]);
        assert_eq!(answer.messages[1].delay, Duration::from_millis(20));
        let feedback = answer.messages[0].response.health_feedback.as_ref().unwrap();
        assert_eq!((feedback.store_id, feedback.slow_score), (1, 1));
    }
}
