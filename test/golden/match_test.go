package main

import "testing"

// Goal: placeholders match their shapes only, and an identifier once seen must
// come back the same. Method: recorded lines against made-up output.
func TestMatch(t *testing.T) {
	n := names{"{EP1}": "127.0.0.1:2379"}
	try := func(want, got string) bool { return n.match(n.compile(want, nil), got) }
	if !try("{EP1} is healthy: took = {DUR}\n", "127.0.0.1:2379 is healthy: took = 2.706079ms\n") {
		t.Error("a duration does not match")
	}
	if try("{EP1} is healthy: took = {DUR}\n", "127.0.0.1:2379 is healthy: took = \n") {
		t.Error("nothing passes for a duration")
	}
	if try("[1.5] {SIZE}", "[1x5] 20") {
		t.Error("literal text is taken for a pattern")
	}
	if !try("lease {LEASE1} granted", "lease 694da203cfcd6a56 granted") {
		t.Fatal("an identifier does not match")
	}
	if !try(`"ID":{LEASE1_DEC}`, `"ID":7587899084444101206`) {
		t.Error("the decimal form of a known identifier differs")
	}
	if try("lease {LEASE1} revoked", "lease 694da203cfcd6a57 revoked") {
		t.Error("another identifier passes for a known one")
	}
	if got := n.fill("etcdctl lease revoke {LEASE1}"); got != "etcdctl lease revoke 694da203cfcd6a56" {
		t.Errorf("filled: %s", got)
	}
}

// Goal: tables compare without their widths, and not without their contents.
func TestNormalTables(t *testing.T) {
	wide := "┌────────┐\n│    ID  │\n│ abcdef │\n└────────┘\n"
	if normal(wide) != normal("┌──────┐\n│  ID  │\n│ abcdef │\n└──────┘\n") {
		t.Error("widths matter")
	}
	if normal(wide) == normal("┌────────┐\n│    ID  │\n│ abcdeg │\n└────────┘\n") {
		t.Error("contents do not matter")
	}
}
