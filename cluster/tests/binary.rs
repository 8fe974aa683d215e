//! The binary: it starts, says where PD is, serves, and ends when it is asked to.
#![cfg(unix)]

mod grpc;

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use anatase_proto::{pdpb, rpc::Rpc};

use crate::grpc::{Client, Lost};

/// Ends with the test, however that ends.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn it_prints_the_address_of_pd_and_ends_on_a_signal() {
    let mut process = Process(
        Command::new(env!("CARGO_BIN_EXE_anatase-cluster"))
            .args(["--stores", "2", "--split-keys", "a,m,z"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let mut line = String::new();
    BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("PD: ").unwrap();

    let mut pd = Client::connect(address).await;
    let members: pdpb::GetMembersResponse =
        pd.call(Rpc::PdGetMembers, &pdpb::GetMembersRequest::default()).await.unwrap();
    let header = Some(pdpb::RequestHeader {
        cluster_id: members.header.unwrap().cluster_id,
        ..Default::default()
    });
    let request = pdpb::ScanRegionsRequest { header: header.clone(), ..Default::default() };
    let regions: pdpb::ScanRegionsResponse = pd.call(Rpc::PdScanRegions, &request).await.unwrap();
    assert_eq!(regions.regions.len(), 4);
    let request = pdpb::GetAllStoresRequest { header, ..Default::default() };
    let stores: pdpb::GetAllStoresResponse = pd.call(Rpc::PdGetAllStores, &request).await.unwrap();
    assert_eq!(stores.stores.len(), 2);
    for store in &stores.stores {
        Client::connect(&store.address).await;
    }

    let pid = process.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let status = tokio::task::spawn_blocking(move || process.0.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
    let request = pdpb::GetMembersRequest::default();
    let lost = pd.call::<pdpb::GetMembersResponse>(Rpc::PdGetMembers, &request).await;
    assert!(matches!(lost, Err(Lost::Connection)), "{lost:?}");
}

#[test]
fn it_says_what_is_wrong_with_its_arguments() {
    let output = Command::new(env!("CARGO_BIN_EXE_anatase-cluster"))
        .args(["--stores", "many"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("many"));
}
