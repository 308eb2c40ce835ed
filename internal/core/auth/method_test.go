package auth

import (
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Every method of the API was thought of: it has its own row, and the rows have
// no method that does not exist.
func TestMethodTableIsComplete(t *testing.T) {
	known := map[string]bool{}
	services := pb.File_rpc_proto.Services()
	for i := range services.Len() {
		methods := services.Get(i).Methods()
		for j := range methods.Len() {
			name := "/" + string(services.Get(i).FullName()) + "/" + string(methods.Get(j).Name())
			known[name] = true
			if _, ok := needs(name); !ok {
				t.Errorf("%s has no row", name)
			}
		}
	}
	for name := range methods {
		if strings.HasPrefix(name, "/etcdserverpb.") && !known[name] {
			t.Errorf("%s does not exist", name)
		}
	}
}

func needs(method string) (Need, bool) {
	n, ok := methods[method]
	return n, ok
}
