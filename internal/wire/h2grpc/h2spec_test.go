package h2grpc_test

import (
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"testing"

	"github.com/steledb/stele/internal/wire/h2grpc"
)

// Goal: the connection is HTTP/2 to the letter. Method: h2spec, a program that
// tests servers clause by clause, if H2SPEC names it (it builds from
// github.com/summerwind/h2spec/cmd/h2spec, v2.2.1).
func TestH2spec(t *testing.T) {
	program := os.Getenv("H2SPEC")
	if program == "" {
		t.Skip("H2SPEC does not name the h2spec program")
	}
	hello := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, "hello, h2spec")
	})
	addr, _ := serve(t, h2grpc.Options{HTTP: hello}, &service{})
	_, port, _ := net.SplitHostPort(addr)
	out, err := exec.Command(program, "-h", "127.0.0.1", "-p", port, "-o", "2", "--strict").CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}
