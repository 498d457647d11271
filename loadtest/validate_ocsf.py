#!/usr/bin/env python3
"""Validates OCSF events offline: one JSON object a line, each against the schema of its own class, version and profiles.

Usage: validate_ocsf.py FILE.jsonl     ("-" reads standard input)
Needs: pip install 'ocsf-json-schema==1.2.0' 'jsonschema>=4.20,<5'

Prints a line for each failure and a closing count. Exit status: 0 all valid, 1 not, 2 could not run.
"""

import json
import sys

try:
    from jsonschema import Draft202012Validator
    from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema
except ImportError as error:
    print(f"{error}; pip install 'ocsf-json-schema==1.2.0' 'jsonschema>=4.20,<5'", file=sys.stderr)
    sys.exit(2)

validators = {}


def validator_of(event):
    """The validator of the event's class; made once."""
    metadata = event["metadata"]
    key = (metadata["version"], event["class_uid"], tuple(sorted(metadata.get("profiles", []))))
    if key not in validators:
        version, class_uid, profiles = key
        schemas = OcsfJsonSchemaEmbedded(get_ocsf_schema(version))
        name = schemas.lookup_class_name_from_uid(class_uid)
        validators[key] = Draft202012Validator(schemas.get_class_schema(name, list(profiles)))
    return validators[key]


def failures_of(line):
    """What is wrong with one line, each as text."""
    try:
        event = json.loads(line)
        validator = validator_of(event)
    except (ValueError, KeyError, TypeError, OSError) as error:
        return [f"{type(error).__name__}: {error}"]
    return [f"{failure.json_path}: {failure.message[:300]}" for failure in validator.iter_errors(event)]


def main(path):
    """Validates every line of a file."""
    lines = invalid = 0
    with sys.stdin if path == "-" else open(path, encoding="utf-8") as events:
        for number, line in enumerate(events, start=1):
            if not line.strip():
                continue
            lines += 1
            failures = failures_of(line)
            invalid += bool(failures)
            for failure in failures:
                print(f"{path}:{number}: {failure}")
    print(f"{lines - invalid} valid, {invalid} invalid, of {lines} lines")
    # An empty file shows that something upstream failed, not that everything is valid.
    return 1 if invalid or not lines else 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    try:
        sys.exit(main(sys.argv[1]))
    except OSError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
