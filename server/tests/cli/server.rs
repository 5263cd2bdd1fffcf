//! A server of a cluster that is not there.

use crate::process::Server;

#[test]
fn a_server_that_never_reached_its_shards_is_alive_and_not_ready() {
    // Nobody listens on the port of tcpmux.
    let server = Server::start_with(&["server", "--sentinel", "127.0.0.1:1", "--shards", "s0"]);
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    let get = |path: &str| {
        let mut answer = agent.get(format!("http://{}{path}", server.address)).call().expect("it answers");
        (answer.status().as_u16(), answer.body_mut().read_to_string().expect("text"))
    };
    assert_eq!(get("/livez").0, 200);
    let (status, body) = get("/readyz");
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("looking for the shards' primaries"), "{body}");
    server.stop();
}
