//! Tests that hostile records become dead letters with origin and reason, and that the stream continues.

use driftline_kafka::Producer;
use driftline_loadtest::services;
use driftline_loadtest::workload::Workload;
use driftline_schemas::limits::DEAD_LETTER_HEAD_BYTES;
use driftline_schemas::topics::Topic;
use driftline_schemas::{Exec, encode};
use driftline_service::clock;

use crate::harness::{PATIENCE, with_topics};

const TEN_MB: usize = 10_000_000;

#[tokio::test]
async fn each_kind_of_bad_record_becomes_a_dead_letter_and_good_ones_are_still_judged() {
    with_topics("bad_input", |bench| async move {
        let workload = Workload::new(1, 4, clock::now_ns());
        let good = encode(&workload.execs[0]).unwrap();
        let mut unknown_schema = good.clone();
        unknown_schema[4] ^= 1;
        let endless = [vec![1; 400_000]].into_iter().collect();
        let endless = encode(&Exec { args: endless, ..workload.execs[0].clone() }).unwrap();
        let cases: [(&str, Vec<u8>); 7] = [
            ("args of the Exec is over its limit of 4097", endless),
            ("the record's key is not its subject's id", good.clone()),
            ("no avro single-object header", b"garbage, by no means a record".to_vec()),
            ("unknown schema fingerprint", unknown_schema),
            ("malformed Exec datum", good[..good.len() - 5].to_vec()),
            ("trailing bytes after the Exec datum", [good.as_slice(), b"more"].concat()),
            ("10000000 bytes, more than the 1000000 allowed", vec![7; TEN_MB]),
        ];

        let _enricher = services::start("enricher", &bench.kafka, &[], bench.logs.path()).await.unwrap();
        workload.publish_image(&bench.producer).await.unwrap();
        let careless = Producer::with_record_limit(&bench.kafka, 2 * TEN_MB).unwrap();
        for (reason, value) in &cases {
            careless.send(Topic::ExecEvents, reason.as_bytes(), value, &[]).await.unwrap();
        }
        careless.settled().await.unwrap();
        workload.produce_containers(&bench.producer).await.unwrap();
        workload.produce_execs(&bench.producer, &workload.execs).await.unwrap();

        let mut reader = bench.collector().await;
        let done = reader
            .until(PATIENCE, |seen| seen.dead_letters.len() >= cases.len() && !seen.findings.is_empty())
            .await
            .unwrap();
        let seen = &reader.collected;
        assert!(done, "{} dead letters, {} findings", seen.dead_letters.len(), seen.findings.len());
        assert_eq!(seen.dead_letters.len(), cases.len());
        for (reason, value) in &cases {
            let letter = seen.dead_letters.iter().find(|letter| letter.key.as_deref() == Some(reason.as_bytes()));
            let letter = letter.unwrap_or_else(|| panic!("no dead letter for: {reason}"));
            let header = |name: &str| {
                let found = letter.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
                found.map(|value| String::from_utf8(value).unwrap()).unwrap_or_default()
            };
            assert!(header("driftline-reason").starts_with(reason), "{reason}: {}", header("driftline-reason"));
            assert_eq!(
                (header("driftline-topic").as_str(), header("driftline-service").as_str()),
                ("exec-events", "enricher")
            );
            assert!(header("driftline-offset").parse::<i64>().is_ok());
            let retained = letter.value.as_deref().unwrap();
            if value.len() == TEN_MB {
                assert_eq!((retained.len(), header("driftline-length")), (DEAD_LETTER_HEAD_BYTES, TEN_MB.to_string()));
            } else {
                assert_eq!(retained, value);
            }
        }
    })
    .await;
}
