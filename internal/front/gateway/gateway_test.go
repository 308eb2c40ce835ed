package gateway

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/steledb/stele/internal/front/inproc"
)

func bounded(bytesMax int) *marshaler {
	return &marshaler{&runtime.HTTPBodyMarshaler{Marshaler: &runtime.JSONPb{
		UnmarshalOptions: protojson.UnmarshalOptions{DiscardUnknown: true},
	}}, bytesMax}
}

// Goal: the bound is on each value, not on the stream that they come in.
// Method: many values whose sum is far above it, then one that is too large.
func TestEachValueIsBounded(t *testing.T) {
	const bytesMax = 4 << 10
	small := `{"key": "` + strings.Repeat("QUFB", 100) + `"} `
	large := `{"key": "` + strings.Repeat("QUFB", bytesMax) + `"}`
	dec := bounded(bytesMax).NewDecoder(strings.NewReader(strings.Repeat(small, 100) + large))
	for i := range 100 {
		var r pb.RangeRequest
		if err := dec.Decode(&r); err != nil || len(r.Key) != 300 {
			t.Fatalf("value %d: %d bytes, %v", i, len(r.Key), err)
		}
	}
	if err := dec.Decode(&pb.RangeRequest{}); !errors.Is(err, errTooLarge) {
		t.Errorf("the large one: %v", err)
	}
}

// Every method that the reference lists an HTTP path for has a handler; without
// a service behind it the answer is Unimplemented and not Not Found.
func TestEveryPathIsServed(t *testing.T) {
	g := New(inproc.New(inproc.Options{}), Options{})
	defer g.Close()
	for _, path := range strings.Fields(`
		kv/range kv/put kv/deleterange kv/txn kv/compaction watch
		lease/grant lease/revoke lease/keepalive lease/timetolive lease/leases
		kv/lease/revoke kv/lease/timetolive kv/lease/leases
		cluster/member/add cluster/member/remove cluster/member/update cluster/member/list cluster/member/promote
		maintenance/alarm maintenance/status maintenance/defragment maintenance/hash maintenance/hashkv
		maintenance/snapshot maintenance/transfer-leadership maintenance/downgrade
		auth/enable auth/disable auth/status auth/authenticate auth/user/add auth/user/get auth/user/list
		auth/user/delete auth/user/changepw auth/user/grant auth/user/revoke auth/role/add auth/role/get
		auth/role/list auth/role/delete auth/role/grant auth/role/revoke
		lock/lock lock/unlock election/campaign election/proclaim election/leader election/observe election/resign`) {
		for _, prefix := range []string{"/v3/", "/v3beta/"} {
			w := httptest.NewRecorder()
			g.ServeHTTP(w, httptest.NewRequest(http.MethodPost, prefix+path, strings.NewReader("{}")))
			if w.Code != http.StatusNotImplemented || !strings.Contains(w.Body.String(), "unknown method") {
				t.Errorf("%s%s: %d %s", prefix, path, w.Code, w.Body)
			}
		}
	}
}

// Whatever is sent, the answer is an answer: JSON, and no panic.
func FuzzRequests(f *testing.F) {
	services := inproc.New(inproc.Options{})
	pb.RegisterKVServer(services, pb.UnimplementedKVServer{})
	g := New(services, Options{RequestBytesMax: 1 << 10})
	f.Add("kv/range", `{"key": "Zm9v"}`)
	f.Add("kv/txn", `{"compare": [{"key": "Zm9v", "create_revision": "0"}], "success": [{"requestPut": {"key": "eA=="}}]}`)
	f.Add("lock/lock", `{"name": "bGs=", "lease": "7"}`)
	f.Add("kv/put", `{bad`)
	f.Fuzz(func(t *testing.T, path, body string) {
		r := httptest.NewRequest(http.MethodPost, "/v3/", strings.NewReader(body))
		r.URL.Path = "/v3/" + path
		w := httptest.NewRecorder()
		g.ServeHTTP(w, r)
		var any any
		if err := json.NewDecoder(w.Body).Decode(&any); err != nil && w.Code != http.StatusTemporaryRedirect {
			t.Errorf("%q: %d %q: %v", path, w.Code, w.Body, err)
		}
	})
}
