#!/usr/bin/env python3
"""Prints the values of a topic, one a line, from its beginning to where it ends now.

A plain client that shares nothing with driftline, for seeing what a SIEM sees: read_topic.py BOOTSTRAP TOPIC
Needs kafka-python and lz4.
"""
import sys

from kafka import KafkaConsumer, TopicPartition


def main(bootstrap, topic):
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed", enable_auto_commit=False)
    partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
    if not partitions:
        sys.exit(f"no topic {topic} at {bootstrap}")
    ends = consumer.end_offsets(partitions)
    consumer.assign(partitions)
    consumer.seek_to_beginning()
    while any(consumer.position(partition) < ends[partition] for partition in partitions):
        for records in consumer.poll(timeout_ms=1000).values():
            for record in records:
                print(record.value.decode())


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
