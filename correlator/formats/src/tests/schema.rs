//! A validator for the part of JSON Schema that the published OCSF schema uses, patterns apart.

use serde_json::Value;

/// Everything in `value` that `schema` does not allow.
pub(super) fn errors(schema: &Value, value: &Value) -> Vec<String> {
    let mut errors = Vec::new();
    validate(schema, schema, value, "", &mut errors);
    errors
}

fn validate(root: &Value, schema: &Value, value: &Value, at: &str, errors: &mut Vec<String>) {
    let schema = match schema["$ref"].as_str() {
        Some(target) => root.pointer(target.trim_start_matches('#')).unwrap(),
        None => schema,
    };
    if !is_of_type(&schema["type"], value) {
        errors.push(format!("{at}: not {}", schema["type"]));
    }
    if schema["enum"].as_array().is_some_and(|allowed| !allowed.contains(value)) {
        errors.push(format!("{at}: {value} is not allowed"));
    }
    errors.extend(missing(&schema["required"], value).iter().map(|name| format!("{at}: {name} is missing")));
    let satisfied = |alternative: &Value| missing(&alternative["required"], value).is_empty();
    if schema["anyOf"].as_array().is_some_and(|any| !any.iter().any(satisfied)) {
        errors.push(format!("{at}: none of the alternatives"));
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        match schema["properties"].get(name) {
            Some(known) => validate(root, known, member, &format!("{at}/{name}"), errors),
            None if schema["additionalProperties"] == false => errors.push(format!("{at}: {name} is unknown")),
            None => {}
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        if let Some(items) = schema.get("items") {
            validate(root, items, item, &format!("{at}/{index}"), errors);
        }
    }
}

/// Without a type, any value is valid.
fn is_of_type(types: &Value, value: &Value) -> bool {
    let is = |name: &Value| match name.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        other => panic!("the schema has a type that this validator does not know: {other:?}"),
    };
    match types {
        Value::Null => true,
        Value::Array(any) => any.iter().any(is),
        one => is(one),
    }
}

fn missing(required: &Value, value: &Value) -> Vec<String> {
    let names = required.as_array().into_iter().flatten().filter_map(Value::as_str);
    names.filter(|name| value.get(name).is_none()).map(str::to_owned).collect()
}
