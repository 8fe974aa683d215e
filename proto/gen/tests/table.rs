//! The table of RPCs agrees with the schema.

use std::collections::{BTreeMap, BTreeSet};

use anatase_proto::rpc::Rpc;
use anatase_proto_gen::{boxed_fields, descriptors, each_message};

/// Full names of all messages, without the leading dot.
fn messages() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in &descriptors().expect("the schema compiles").file {
        each_message(file, &mut |name, _| {
            names.insert(name.trim_start_matches('.').to_owned());
        });
    }
    names
}

/// Number to message type in the oneof of one direction of `BatchCommands`.
fn oneof(message: &str) -> BTreeMap<u32, String> {
    let mut arms = BTreeMap::new();
    for file in &descriptors().expect("the schema compiles").file {
        each_message(file, &mut |name, descriptor| {
            if name == message {
                for field in &descriptor.field {
                    assert_eq!(field.oneof_index, Some(0), "{} is outside cmd", field.name());
                    let number = u32::try_from(field.number()).expect("positive");
                    let ty = field.type_name().trim_start_matches('.').to_owned();
                    arms.insert(number, ty);
                }
            }
        });
    }
    arms
}

#[test]
fn every_request_and_response_is_in_the_schema() {
    let messages = messages();
    for rpc in Rpc::ALL {
        let info = rpc.info();
        assert!(messages.contains(info.request), "{rpc}: {}", info.request);
        assert!(messages.contains(info.response), "{rpc}: {}", info.response);
    }
}

#[test]
fn batch_numbers_are_those_of_the_oneof() {
    let mut requests = oneof(".tikvpb.BatchCommandsRequest.Request");
    let mut responses = oneof(".tikvpb.BatchCommandsResponse.Response");
    for rpc in Rpc::ALL {
        let info = rpc.info();
        if let Some(number) = info.batch {
            assert_eq!(requests.remove(&number).as_deref(), Some(info.request), "{rpc}");
            assert_eq!(responses.remove(&number).as_deref(), Some(info.response), "{rpc}");
        }
    }
    // Import is not a client's business, and Empty probes the stream itself: neither is a call.
    let rest: Vec<u32> = requests.into_keys().collect();
    assert_eq!(rest, [5, 255]);
    let rest: Vec<u32> = responses.into_keys().collect();
    assert_eq!(rest, [5, 255]);
}

#[test]
fn what_is_boxed() {
    let boxed: BTreeSet<String> =
        boxed_fields(&descriptors().expect("the schema compiles")).into_iter().collect();
    for path in [
        ".kvrpcpb.GetResponse.region_error",
        ".kvrpcpb.GetResponse.error",
        ".kvrpcpb.GetResponse.exec_details_v2",
        ".kvrpcpb.GetRequest.context",
        ".kvrpcpb.KeyError.locked",
        ".kvrpcpb.KvPair.error",
        ".kvrpcpb.Context.resource_control_context",
        ".kvrpcpb.Context.trace_context",
        ".kvrpcpb.Context.source_stmt",
        ".errorpb.Error.not_leader",
        ".coprocessor.Response.exec_details",
        ".tikvpb.BatchCommandsResponse.health_feedback",
    ] {
        assert!(boxed.contains(path), "{path} is inline");
    }
    for path in [
        ".kvrpcpb.Context.region_epoch",
        ".kvrpcpb.Context.peer",
        ".kvrpcpb.PrewriteResponse.errors",
        ".kvrpcpb.ExecDetailsV2.scan_detail_v2",
        ".pdpb.TsoResponse.timestamp",
        ".pdpb.TsoResponse.header",
        ".pdpb.GetRegionResponse.region",
        ".metapb.Region.region_epoch",
    ] {
        assert!(!boxed.contains(path), "{path} is boxed");
    }
}
