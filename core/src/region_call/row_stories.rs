//! Region calls, told: each row of `control-plane.md` §6.5.

use crate::KeyMode::Raw;
use crate::story::story;

const TWO: &str = "..k=1 k..=2";

/// `control-plane.md` §6.5, row 1: a put can be repeated harmlessly, and is.
#[test]
fn row_1_undetermined_result() {
    story(
        Raw,
        TWO,
        "
        $ put b=1
        > 1 store 1 RawPut b=1 | region 1
        $ 1 undetermined
        $ wait
        ~ 2ms: Backoff
        > 2 store 1 RawPut b=1 | region 1 retry
        $ 2 ok
        = done
        ",
    );
}

/// Row 2: the replica names the leader; the cache remembers.
#[test]
fn row_2_not_leader_with_a_leader() {
    story(
        Raw,
        TWO,
        "
        $ get b
        > 1 store 1 RawGet b | region 1
        $ 1 not_leader 3
        > 2 store 3 RawGet b | region 1 retry
        $ 2 value x
        = value x
        $ get c
        > 3 store 3 RawGet c | region 1
        $ 3 value y
        = op 2: value y
        ",
    );
}

/// Row 2': nobody is named: after a pause each other replica is asked, then the region is found anew.
#[test]
fn row_2_not_leader_without_a_leader() {
    story(
        Raw,
        TWO,
        "
        $ get b
        > 1 store 1 RawGet b | region 1
        $ 1 not_leader
        $ wait
        ~ 2ms: Backoff
        > 2 store 3 RawGet b | region 1 retry
        $ 2 not_leader
        $ wait
        ~ 6ms: Backoff
        > 3 store 2 RawGet b | region 1 retry
        $ leader 1 3
        $ 3 not_leader
        $ wait
        ~ 14ms: Backoff
        $ wait
        ~ 16ms: Backoff
        > 4 store 3 RawGet b | region 1 retry
        $ 4 value x
        = value x
        ",
    );
}

/// Row 2, a circle: replicas that name each other are not asked in a tight loop.
#[test]
fn row_2_replicas_that_name_each_other() {
    story(
        Raw,
        TWO,
        "
        $ get b
        > 1 store 1 RawGet b | region 1
        $ 1 not_leader 2
        > 2 store 2 RawGet b | region 1 retry
        $ 2 not_leader 1
        > 3 store 1 RawGet b | region 1 retry
        $ 3 not_leader 2
        > 4 store 2 RawGet b | region 1 retry
        $ 4 not_leader 1
        > 5 store 1 RawGet b | region 1 retry
        $ 5 not_leader 2
        > 6 store 2 RawGet b | region 1 retry
        $ 6 not_leader 1
        $ wait
        ~ 2ms: Backoff
        > 7 store 1 RawGet b | region 1 retry
        $ 7 value x
        = value x
        ",
    );
}

/// Row 2, after a long time without a leader: the first hint at the new one is followed at once.
#[test]
fn row_2_a_leader_after_a_long_time_without() {
    story(
        Raw,
        TWO,
        "
        $ get b
        > 1 store 1 RawGet b | region 1
        $ 1 not_leader
        $ wait
        ~ 2ms: Backoff
        > 2 store 3 RawGet b | region 1 retry
        $ 2 not_leader
        $ wait
        ~ 6ms: Backoff
        > 3 store 2 RawGet b | region 1 retry
        $ 3 not_leader
        $ wait
        ~ 14ms: Backoff
        $ wait
        ~ 16ms: Backoff
        > 4 store 1 RawGet b | region 1 retry
        $ 4 not_leader
        $ wait
        ~ 32ms: Backoff
        > 5 store 2 RawGet b | region 1 retry
        $ 5 not_leader
        $ wait
        ~ 64ms: Backoff
        > 6 store 3 RawGet b | region 1 retry
        $ 6 not_leader
        $ wait
        ~ 128ms: Backoff
        $ wait
        ~ 132ms: Backoff
        > 7 store 1 RawGet b | region 1 retry
        $ 7 not_leader 3
        > 8 store 3 RawGet b | region 1 retry
        $ 8 value x
        = value x
        ",
    );
}

/// Row 2, a leader that the cached region does not have.
#[test]
fn row_2_a_leader_that_is_no_replica() {
    story(
        Raw,
        TWO,
        "
        $ get b
        > 1 store 1 RawGet b | region 1
        $ 1 not_leader 9
        $ wait
        ~ 2ms: Backoff
        > 2 store 1 RawGet b | region 1 retry
        $ 2 value x
        = value x
        ",
    );
}

#[test]
fn row_3_disk_full() {
    story(
        Raw,
        TWO,
        "
        $ put b=1
        > 1 store 1 RawPut b=1 | region 1
        $ 1 disk_full
        $ wait
        ~ 500ms: Backoff
        > 2 store 1 RawPut b=1 | region 1 retry
        $ 2 ok
        = done
        ",
    );
}

#[test]
fn row_4_recovery_in_progress() {
    story(
        Raw,
        TWO,
        "
        $ get b
        > 1 store 1 RawGet b | region 1
        $ 1 recovery
        $ wait
        ~ 88ms: Backoff
        > 2 store 1 RawGet b | region 1 retry
        $ 2 value x
        = value x
        ",
    );
}

#[test]
fn row_5_is_witness() {
    story(
        Raw,
        TWO,
        "
        $ get b
        > 1 store 1 RawGet b | region 1
        $ 1 witness
        $ wait
        ~ 881ms: Backoff
        > 2 store 1 RawGet b | region 1 retry
        $ 2 value x
        = value x
        ",
    );
}

#[test]
fn row_6_flashback_in_progress() {
    story(
        Raw,
        TWO,
        "
        $ get b
        > 1 store 1 RawGet b | region 1
        $ 1 flashback
        = Refused: the region is in flashback since 0 (region 1@1.1) (store 1)
        ",
    );
}

#[test]
fn row_7_flashback_not_prepared() {
    story(
        Raw,
        TWO,
        "
        $ get b
        > 1 store 1 RawGet b | region 1
        $ 1 flashback_not_prepared
        = Refused: the region is not prepared for flashback (region 1@1.1) (store 1)
        ",
    );
}

/// Row 8: the region has gone elsewhere; PD knows where.
#[test]
fn row_8_region_not_found() {
    story(
        Raw,
        TWO,
        "
        $ get b
        > 1 store 1 RawGet b | region 1
        $ leader 1 2
        $ 1 region_not_found
        $ wait
        ~ 2ms: Backoff
        > 2 store 2 RawGet b | region 1 retry
        $ 2 value x
        = value x
        ",
    );
}

/// Row 8: a follower has not heard of the region, the leader has not been asked.
#[test]
fn row_8_region_not_found_on_a_follower() {
    story(
        Raw,
        TWO,
        "
        $ silence stores
        $ get a
        > 1 store 1 RawGet a | region 1
        $ 1 refused
        > 2 store 1 HealthCheck
        $ 2 refused
        $ cancel 1
        ~ Stopped
        $ get b
        > 3 store 2 RawGet b | region 1
        $ 3 region_not_found
        > 4 store 3 RawGet b | region 1 retry
        $ 4 value x
        = op 2: value x
        ",
    );
}

#[test]
fn row_9_key_not_in_region() {
    story(
        Raw,
        TWO,
        "
        $ get b
        > 1 store 1 RawGet b | region 1
        $ 1 key_not_in_region
        $ wait
        ~ 2ms: Backoff
        > 2 store 1 RawGet b | region 1 retry
        $ 2 value x
        = value x
        ",
    );
}

/// Row 10: the store tells what is there now; nobody waits, and PD is not asked.
#[test]
fn row_10_epoch_not_match_with_regions() {
    story(
        Raw,
        TWO,
        "
        $ get f
        > 1 store 1 RawGet f | region 1
        $ split 1 at d as 3
        $ silence pd
        $ 1 epoch 1 3
        > 2 store 1 RawGet f | region 3 retry
        $ 2 value x
        = value x
        ",
    );
}

/// Row 10: the store does not tell; PD does.
#[test]
fn row_10_epoch_not_match_without_regions() {
    story(
        Raw,
        TWO,
        "
        $ get f
        > 1 store 1 RawGet f | region 1
        $ split 1 at d as 3
        $ 1 epoch
        $ wait
        ~ 2ms: Backoff
        > 2 store 1 RawGet f | region 3 retry
        $ 2 value x
        = value x
        ",
    );
}

/// Row 10: the store lags behind what the client has learned elsewhere: it is given time.
#[test]
fn row_10_the_store_is_behind() {
    story(
        Raw,
        TWO,
        "
        $ split 1 at d as 3
        $ get b
        > 1 store 1 RawGet b | region 1
        $ split 2 at p as 4
        $ 1 value x
        = value x
        $ get c
        > 2 store 1 RawGet c | region 1
        $ 2 behind
        $ wait
        ~ 2ms: Backoff
        > 3 store 1 RawGet c | region 1 retry
        $ 3 value y
        = op 2: value y
        ",
    );
}

#[test]
fn row_11_bucket_version_not_match() {
    story(
        Raw,
        TWO,
        "
        $ get b
        > 1 store 1 RawGet b | region 1
        $ 1 bucket_version
        $ wait
        ~ 2ms: Backoff
        > 2 store 1 RawGet b | region 1 retry
        $ 2 value x
        = value x
        ",
    );
}

/// Row 13: the leader is waited for; busy twice, another replica is asked whether it still leads.
#[test]
fn row_13_server_is_busy() {
    story(
        Raw,
        TWO,
        "
        $ get b
        > 1 store 1 RawGet b | region 1
        $ 1 busy
        $ wait
        ~ 1.762s: Backoff
        > 2 store 1 RawGet b | region 1 retry
        $ 2 busy
        $ wait
        ~ 5.15s: Backoff
        > 3 store 2 RawGet b | region 1 retry
        $ 3 not_leader 1
        > 4 store 1 RawGet b | region 1 retry
        $ 4 busy
        $ wait
        ~ 12.696s: Backoff
        > 5 store 1 RawGet b | region 1 retry
        $ 5 value x
        = value x
        ",
    );
}

/// Row 14: a stale command may have been executed; it is sent again, marked as a retry.
#[test]
fn row_14_stale_command() {
    story(
        Raw,
        TWO,
        "
        $ put b=1
        > 1 store 1 RawPut b=1 | region 1
        $ 1 stale_command
        $ wait
        ~ 2ms: Backoff
        > 2 store 1 RawPut b=1 | region 1 retry
        $ 2 error no more
        = Refused in doubt: no more
        ",
    );
}

/// Row 15: another store answers at that address: PD is asked for both, the region and the store.
#[test]
fn row_15_store_not_match() {
    story(
        Raw,
        TWO,
        "
        $ get b
        > 1 store 1 RawGet b | region 1
        $ silence pd
        $ 1 store_not_match
        $ wait
        ~ 2ms: Backoff
        > 2 PD PdGetRegion b
        $ 2 ok
        > 3 PD PdGetStore 1
        $ 3 ok
        > 4 store 1 RawGet b | region 1 retry
        ",
    );
}

#[test]
fn row_16_raft_entry_too_large() {
    story(
        Raw,
        TWO,
        "
        $ put b=1
        > 1 store 1 RawPut b=1 | region 1
        $ 1 too_large
        = TooLarge: the write makes a Raft entry of 9437184 bytes, which is too large (region 1@1.1) (store 1)
        ",
    );
}

#[test]
fn row_17_max_timestamp_not_synced() {
    story(
        Raw,
        TWO,
        "
        $ put b=1
        > 1 store 1 RawPut b=1 | region 1
        $ 1 max_ts_not_synced
        $ wait
        ~ 2ms: Backoff
        > 2 store 1 RawPut b=1 | region 1 retry
        $ 2 max_ts_not_synced
        $ wait
        ~ 6ms: Backoff
        > 3 store 1 RawPut b=1 | region 1 retry
        $ 3 ok
        = done
        ",
    );
}

#[test]
fn row_18_region_not_initialized() {
    story(
        Raw,
        TWO,
        "
        $ get b
        > 1 store 1 RawGet b | region 1
        $ 1 not_initialized
        $ wait
        ~ 2ms: Backoff
        > 2 store 1 RawGet b | region 1 retry
        $ 2 value x
        = value x
        ",
    );
}

#[test]
fn row_19_read_index_not_ready() {
    story(
        Raw,
        TWO,
        "
        $ get b
        > 1 store 1 RawGet b | region 1
        $ 1 read_index_not_ready
        $ wait
        ~ 2ms: Backoff
        > 2 store 1 RawGet b | region 1 retry
        $ 2 value x
        = value x
        ",
    );
}

#[test]
fn row_20_proposal_in_merging_mode() {
    story(
        Raw,
        TWO,
        "
        $ put b=1
        > 1 store 1 RawPut b=1 | region 1
        $ 1 merging
        $ wait
        ~ 2ms: Backoff
        > 2 store 1 RawPut b=1 | region 1 retry
        $ 2 ok
        = done
        ",
    );
}

#[test]
fn row_21_data_is_not_ready() {
    story(
        Raw,
        TWO,
        "
        $ get b
        > 1 store 1 RawGet b | region 1
        $ 1 data_not_ready
        > 2 store 3 RawGet b | region 1 retry
        $ 2 not_leader 1
        > 3 store 1 RawGet b | region 1 retry
        $ 3 value x
        = value x
        ",
    );
}

#[test]
fn row_23_mismatch_peer_id() {
    story(
        Raw,
        TWO,
        "
        $ get b
        > 1 store 1 RawGet b | region 1
        $ 1 mismatch_peer
        $ wait
        ~ 2ms: Backoff
        > 2 store 1 RawGet b | region 1 retry
        $ 2 value x
        = value x
        ",
    );
}

#[test]
fn row_24_invalid_max_ts_update() {
    story(
        Raw,
        TWO,
        "
        $ get b
        > 1 store 1 RawGet b | region 1
        $ 1 message invalid max_ts update
        = Refused: region error: invalid max_ts update (region 1@1.1) (store 1)
        ",
    );
}

/// Row 25: what is not understood is retried, and never counts as «certainly not executed».
#[test]
fn row_25_anything_else() {
    story(
        Raw,
        TWO,
        "
        $ put b=1
        > 1 store 1 RawPut b=1 | region 1
        $ 1 message something new
        $ wait
        ~ 2ms: Backoff
        > 2 store 1 RawPut b=1 | region 1 retry
        $ 2 too_large
        = TooLarge in doubt: the write makes a Raft entry of 9437184 bytes, which is too large (region 1@1.1) (store 1) after 2 attempts
        ",
    );
}

/// A replica that does not lead and names itself is between two terms: it is given a moment.
#[test]
fn row_2_a_replica_that_names_itself() {
    story(
        Raw,
        TWO,
        "
        $ get b
        > 1 store 1 RawGet b | region 1
        $ 1 not_leader 1
        $ wait
        ~ 2ms: Backoff
        > 2 store 1 RawGet b | region 1 retry
        $ 2 value x
        = value x
        ",
    );
}
