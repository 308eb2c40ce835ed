package ctl

import (
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

// Goal: every target and operator reads as recorded.
func TestParseCompare(t *testing.T) {
	for line, want := range map[string]*pb.Compare{
		`mod("key1") > "0"`: {Key: []byte("key1"), Result: pb.Compare_GREATER, Target: pb.Compare_MOD,
			TargetUnion: &pb.Compare_ModRevision{}},
		`m("k") < "7"`: {Key: []byte("k"), Result: pb.Compare_LESS, Target: pb.Compare_MOD,
			TargetUnion: &pb.Compare_ModRevision{ModRevision: 7}},
		`version("k") != "100"`: {Key: []byte("k"), Result: pb.Compare_NOT_EQUAL, Target: pb.Compare_VERSION,
			TargetUnion: &pb.Compare_Version{Version: 100}},
		`c("k") = "2"`: {Key: []byte("k"), Result: pb.Compare_EQUAL, Target: pb.Compare_CREATE,
			TargetUnion: &pb.Compare_CreateRevision{CreateRevision: 2}},
		`val("k") = "a \"b\" \x00"`: {Key: []byte("k"), Result: pb.Compare_EQUAL, Target: pb.Compare_VALUE,
			TargetUnion: &pb.Compare_Value{Value: []byte("a \"b\" \x00")}},
		`lease("k") = "694da203cfcd6a56"`: {Key: []byte("k"), Result: pb.Compare_EQUAL, Target: pb.Compare_LEASE,
			TargetUnion: &pb.Compare_Lease{Lease: 0x694da203cfcd6a56}},
	} {
		got, err := parseCompare(line)
		if err != nil || !proto.Equal(got, want) {
			t.Errorf("%s: got %v, %v", line, got, err)
		}
	}
}

// Goal: what cannot be read is shown with what was understood of it, and ends
// with the code for invalid input.
func TestCompareErrors(t *testing.T) {
	for line, want := range map[string]string{
		`foo`:                 `malformed comparison: foo`,
		`mod(key1) > "0"`:     `malformed comparison: mod(key1) > "0"; got mod("")  ""`,
		`mod("key1") > 0`:     `malformed comparison: mod("key1") > 0; got mod("key1") > ""`,
		`bogus("key1") = "0"`: `malformed comparison: bogus("key1") = "0" (unknown target bogus)`,
		`mod("key1") > "abc"`: `invalid txn compare request: mod("key1") > "abc"`,
		`mod("key1") >= "0"`:  `malformed comparison: mod("key1") >= "0" (unknown operator >=)`,
	} {
		_, err := parseCompare(line)
		if err == nil || err.Error() != want || codeOf(err) != exitInvalidInput {
			t.Errorf("%s: got %v (code %d), want %s", line, err, codeOf(err), want)
		}
	}
}

func FuzzParseCompare(f *testing.F) {
	for _, s := range []string{`mod("key1") > "0"`, `val("k") = "\x00"`, `(`, `a("b`, `lease("k")="1"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		c, err := parseCompare(line)
		if err == nil && c.TargetUnion == nil {
			t.Errorf("%q: no target and no error", line)
		}
	})
}
