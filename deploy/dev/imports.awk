# Pairs of files of one package that import each other, from the paths that begin with crate, super or self. A module and
# its own submodules do not count, nor do tests. The arguments are files below a src directory; `lint.sh imports` runs it.

# "a/b.rs", "a/b/mod.rs" and "lib.rs" as "a::b", "a::b" and "".
function module_of(rest) {
  sub(/\.rs$/, "", rest)
  sub(/(^|\/)(mod|lib|main)$/, "", rest)
  gsub(/\//, "::", rest)
  return rest
}

function trim(text) {
  gsub(/^[ \t]+|[ \t]+$/, "", text)
  return text
}

function starts_with(text, start) { return substr(text, 1, length(start)) == start }

# Whether one is the other, or lies in it; "" is the root of the package.
function is_within(one, other) { return other == "" || one == other || starts_with(one, other "::") }

# Notes which module a path of the present file leads to: the longest beginning that is one.
function note(path,   parts, count, at, base, target) {
  count = split(path, parts, "::")
  at = 1
  if (parts[1] == "crate") {
    base = ""
    at = 2
  } else if (parts[1] == "self") {
    base = module
    at = 2
  } else if (parts[1] == "super") {
    base = module
    for (; parts[at] == "super"; at++) if (!sub(/::[^:]+$/, "", base)) base = ""
  } else {
    return
  }
  target = base
  for (; at <= count; at++) {
    base = (base == "") ? parts[at] : base "::" parts[at]
    if (!((package, base) in modules)) break
    target = base
  }
  if (!is_within(target, module) && !is_within(module, target)) edges[package, module, target] = 1
}

# Notes each path of a use, with its groups: "crate::{a::B, c::{D, E}}".
function note_all(prefix, tree,   depth, at, char, item, brace) {
  depth = 0
  item = ""
  tree = tree ","
  for (at = 1; at <= length(tree); at++) {
    char = substr(tree, at, 1)
    if (char == "{") depth++
    if (char == "}") depth--
    if (char != "," || depth > 0) {
      item = item char
      continue
    }
    item = trim(item)
    brace = index(item, "{")
    if (brace > 0) note_all(prefix substr(item, 1, brace - 1), substr(item, brace + 1, length(item) - brace - 1))
    else if (item != "") {
      sub(/[ \t]+as[ \t].*/, "", item)
      note(prefix item)
    }
    item = ""
  }
}

function finish_file(   found, before) {
  while (match(text, /(^|[^A-Za-z0-9_])use[ \t]+[^;]+;/)) {
    found = substr(text, RSTART, RLENGTH)
    text = substr(text, 1, RSTART - 1) " ; " substr(text, RSTART + RLENGTH)
    sub(/^.?use[ \t]+/, "", found)
    sub(/;$/, "", found)
    note_all("", found)
  }
  while (match(text, /(crate|super|self)(::[A-Za-z0-9_]+)+/)) {
    found = substr(text, RSTART, RLENGTH)
    before = substr(text, RSTART - 1, 1)
    text = substr(text, RSTART + RLENGTH)
    if (before !~ /[A-Za-z0-9_:]/) note(found)
  }
  text = ""
}

BEGIN {
  for (i = 1; i < ARGC; i++) {
    split(ARGV[i], halves, "/src/")
    modules[halves[1], module_of(halves[2])] = 1
  }
}

FNR == 1 {
  if (NR > 1) finish_file()
  split(FILENAME, halves, "/src/")
  package = halves[1]
  module = module_of(halves[2])
  state = ""
}
# A module of tests at the end of a file.
/^#\[cfg\(test\)\]/ { state = "attribute"; next }
state == "attribute" && /^#\[/ { next }
state == "attribute" { state = /^mod [a-z_]+ \{/ ? "tests" : "" }
state == "tests" { next }
{
  sub(/\/\/.*/, "")
  text = text " " $0
}

END {
  finish_file()
  for (edge in edges) {
    split(edge, ends, SUBSEP)
    if (ends[2] < ends[3] && ((ends[1], ends[3], ends[2]) in edges)) print ends[1] ": " ends[2] " <-> " ends[3]
  }
}
