package rpc

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/steledb/stele/internal/core/auth"
	"github.com/steledb/stele/internal/core/cluster"
	"github.com/steledb/stele/internal/core/kv"
	"github.com/steledb/stele/internal/core/lease"
	"github.com/steledb/stele/internal/core/mvcc"
	"github.com/steledb/stele/internal/member"
)

// Goal: errors of the cores reach clients with the code and text of etcd,
// wherever on the way they were wrapped.
func TestErrorsBecomeStatuses(t *testing.T) {
	for _, c := range []struct {
		err  error
		code codes.Code
		text string
	}{
		{kv.ErrEmptyKey, codes.InvalidArgument, "etcdserver: key is not provided"},
		{mvcc.ErrCompacted, codes.OutOfRange, "etcdserver: mvcc: required revision has been compacted"},
		{fmt.Errorf("range: %w", mvcc.ErrFutureRev), codes.OutOfRange, "etcdserver: mvcc: required revision is a future revision"},
		{lease.ErrNotFound, codes.NotFound, "etcdserver: requested lease not found"},
		{auth.ErrPermissionNotGiven, codes.InvalidArgument, "etcdserver: permission not given"},
		{auth.ErrNoPasswordUser, codes.Unknown, "auth: authentication failed, password was given for no password user"},
		{cluster.ErrNotFound, codes.NotFound, "etcdserver: member not found"},
		{member.ErrTimeout, codes.Unavailable, "etcdserver: request timed out"},
		{member.ErrTooManyRequests, codes.ResourceExhausted, "etcdserver: too many requests"},
		{kv.ErrStreamSort, codes.Unimplemented, "RangeStream does not support custom sort orders"},
		{errors.New("something else"), codes.Unknown, "something else"},
	} {
		got := status.Convert(toStatus(c.err))
		if got.Code() != c.code || got.Message() != c.text {
			t.Errorf("%v: got %v %q, want %v %q", c.err, got.Code(), got.Message(), c.code, c.text)
		}
	}
}

// Goal: every status recorded from etcd 3.7 is known here.
func TestRecordedStatusesAreKnown(t *testing.T) {
	f, err := os.Open("../../../../shared/reference/grpc-errors.tsv")
	if err != nil {
		t.Skip("no ../shared beside this checkout")
	}
	defer f.Close()
	rows := 0
	for lines := bufio.NewScanner(f); lines.Scan(); {
		cells := strings.Split(lines.Text(), "\t")
		if len(cells) < 4 || !strings.Contains(cells[3], "3.7") {
			continue
		}
		rows++
		got := status.Convert(toStatus(errors.New(cells[2])))
		if got.Code().String() != cells[0] || got.Message() != cells[2] {
			t.Errorf("%s: got %v %q", lines.Text(), got.Code(), got.Message())
		}
	}
	if rows < 50 {
		t.Errorf("only %d rows were read", rows)
	}
}
