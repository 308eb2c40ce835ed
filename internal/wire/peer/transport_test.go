package peer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/steledb/stele/internal/base/ids"
	"github.com/steledb/stele/internal/base/raftpb"
)

// fakeMember takes everything in.
type fakeMember struct {
	got         chan raftpb.Message
	unreachable chan uint64
	snapshots   chan bool
	expelled    chan uint64

	mu      sync.Mutex
	removed map[uint64]bool // guarded by mu
	saved   []byte          // guarded by mu
}

func newFakeMember() *fakeMember {
	return &fakeMember{
		got: make(chan raftpb.Message, 1024), unreachable: make(chan uint64, 1024), snapshots: make(chan bool, 16),
		expelled: make(chan uint64, 1024), removed: map[uint64]bool{},
	}
}

func (f *fakeMember) Process(_ context.Context, m raftpb.Message) error {
	if m.Type == raftpb.MsgProp {
		return errors.New("not wanted")
	}
	f.got <- m
	return nil
}

func (f *fakeMember) IsRemoved(id uint64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.removed[id]
}

func (f *fakeMember) ReportUnreachable(id uint64)      { f.unreachable <- id }
func (f *fakeMember) ReportSnapshot(_ uint64, ok bool) { f.snapshots <- ok }
func (f *fakeMember) Expelled(by uint64)               { f.expelled <- by }

func (f *fakeMember) SaveSnapshot(_ *raftpb.Message, body io.Reader) error {
	b, err := io.ReadAll(body)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.saved = b
	return err
}

// end is one member's side of a test.
type end struct {
	*Transport
	*fakeMember
	url string
}

func newEnd(t *testing.T, id, clusterID uint64) *end {
	t.Helper()
	e := &end{fakeMember: newFakeMember()}
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	e.url = server.URL
	e.Transport = New(Options{ID: id, ClusterID: clusterID, PeerURLs: []string{server.URL}, Handler: e.fakeMember, Log: slog.New(slog.DiscardHandler)})
	e.Serve(mux)
	t.Cleanup(func() {
		e.Transport.Stop()
		server.CloseClientConnections()
		server.Close()
	})
	return e
}

func want(t *testing.T, ch <-chan raftpb.Message) raftpb.Message {
	t.Helper()
	select {
	case m := <-ch:
		return m
	case <-time.After(10 * time.Second):
		t.Fatal("nothing came")
		return raftpb.Message{}
	}
}

// waitStreams returns when b reads both streams from a.
func waitStreams(t *testing.T, a *end, b uint64) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		l := a.peer(b)
		l.mu.Lock()
		up := l.out[streamAppend] != nil && l.out[streamMessage] != nil
		l.mu.Unlock()
		if up {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("streams do not come up")
		}
		time.Sleep(time.Millisecond) // real sockets
	}
}

// TestTwoMembersTalk: messages of every kind reach the other side, by post
// before the streams are up and by stream afterwards.
func TestTwoMembersTalk(t *testing.T) {
	a, b := newEnd(t, 1, 9), newEnd(t, 2, 9)
	a.AddPeer(2, []string{b.url})
	// b does not know a yet: no streams, so this one is posted.
	a.Send([]raftpb.Message{{Type: raftpb.MsgVote, From: 1, To: 2, Term: 3}})
	if m := want(t, b.got); m.Type != raftpb.MsgVote || m.Term != 3 {
		t.Errorf("posted vote came as %+v", m)
	}
	// By the post b knows where to answer.
	b.Send([]raftpb.Message{{Type: raftpb.MsgVoteResp, From: 2, To: 1, Term: 3}})
	if m := want(t, a.got); m.Type != raftpb.MsgVoteResp {
		t.Errorf("answer of a remote came as %+v", m)
	}
	b.AddPeer(1, []string{a.url})
	waitStreams(t, a, 2)
	for i := range uint64(100) {
		a.Send([]raftpb.Message{{Type: raftpb.MsgApp, From: 1, To: 2, Term: 3, LogTerm: 3, Index: i, Commit: i,
			Entries: []raftpb.Entry{{Term: 3, Index: i + 1, Data: []byte("x")}}}})
	}
	for i := range uint64(100) {
		if m := want(t, b.got); m.Type != raftpb.MsgApp || m.From != 1 || m.To != 2 || m.Index != i || m.Commit != i || len(m.Entries) != 1 {
			t.Fatalf("append %d came as %+v", i, m)
		}
	}
	if a.ActiveSince(2).IsZero() {
		t.Error("a peer with streams is not active")
	}
}

// body is a snapshot's database in memory.
type body struct{ *bytes.Reader }

func (body) Close() error { return nil }

func TestASnapshotIsSavedBeforeItIsProcessed(t *testing.T) {
	a, b := newEnd(t, 1, 9), newEnd(t, 2, 9)
	a.AddPeer(2, []string{b.url})
	data := bytes.Repeat([]byte("page"), 1<<20)
	snap := &raftpb.Snapshot{Data: []byte("{}"), Metadata: raftpb.SnapshotMetadata{Index: 7, Term: 2, ConfState: raftpb.ConfState{Voters: []uint64{1, 2}}}}
	a.SendSnapshot(raftpb.Message{Type: raftpb.MsgSnap, From: 1, To: 2, Term: 2, Snapshot: snap}, body{bytes.NewReader(data)})
	m := want(t, b.got)
	b.fakeMember.mu.Lock()
	defer b.fakeMember.mu.Unlock()
	if m.Snapshot == nil || m.Snapshot.Metadata.Index != 7 || !bytes.Equal(b.saved, data) {
		t.Errorf("snapshot came as %+v with %d bytes", m, len(b.saved))
	}
	if !<-a.snapshots {
		t.Error("sending is reported as failed")
	}
}

func TestARemovedMemberIsTold(t *testing.T) {
	a, b := newEnd(t, 1, 9), newEnd(t, 2, 9)
	b.removed[1] = true
	a.AddPeer(2, []string{b.url})
	select {
	case by := <-a.expelled:
		if by != 2 {
			t.Errorf("expelled by %d", by)
		}
	case <-time.After(10 * time.Second):
		t.Error("nobody told the removed member")
	}
}

// TestWhatNobodyTakesIsReported: without a listener a message is lost and said
// to be.
func TestWhatNobodyTakesIsReported(t *testing.T) {
	a := newEnd(t, 1, 9)
	a.AddPeer(2, []string{"http://127.0.0.1:1"})
	a.Send([]raftpb.Message{{Type: raftpb.MsgHeartbeat, From: 1, To: 2}})
	select {
	case <-a.unreachable:
	case <-time.After(10 * time.Second):
		t.Error("a lost message is not reported")
	}
	if !a.ActiveSince(2).IsZero() {
		t.Error("a peer without a listener is active")
	}
}

// TestAFullQueueRefuses: the loop never waits, so the queue has to say no.
func TestAFullQueueRefuses(t *testing.T) {
	q := newQueue()
	for i := range queueMessages {
		if !q.push(raftpb.Message{Type: raftpb.MsgHeartbeat}) {
			t.Fatalf("refused message %d of %d", i, queueMessages)
		}
	}
	if q.push(raftpb.Message{}) {
		t.Error("took more than the bound")
	}
	if n := len(q.take()); n != queueMessages || !q.push(raftpb.Message{}) {
		t.Errorf("took %d, and has no room afterwards", n)
	}
	q.close()
	if q.push(raftpb.Message{}) {
		t.Error("a closed queue takes messages")
	}
}

// TestChecksInOrder: statuses and texts of every refusal, as recorded from etcd.
func TestChecksInOrder(t *testing.T) {
	b := newEnd(t, 2, 9)
	b.removed[4] = true
	b.AddPeer(1, []string{"http://127.0.0.1:1"})
	good := map[string]string{headerFrom: "1", headerVersion: "3.7.1", headerMinCluster: "3.0.0", headerCluster: "9", headerTo: "2"}
	for _, c := range []struct {
		name, method, path string
		change             map[string]string
		body               string
		status             int
		text               string
	}{
		{"method", "POST", "/raft/stream/message/1", nil, "", 405, "Method Not Allowed"},
		{"no version", "GET", "/raft/stream/message/1", map[string]string{headerVersion: "", headerCluster: "8"}, "", 412, "incompatible version"},
		{"too new", "GET", "/raft/stream/message/1", map[string]string{headerVersion: "4.1.0", headerMinCluster: "4.0.0"}, "", 412, "incompatible version"},
		{"other cluster", "GET", "/raft/stream/message/1", map[string]string{headerCluster: "8"}, "", 412, "cluster ID mismatch"},
		{"path", "GET", "/raft/stream/other/1", nil, "", 404, "invalid path"},
		{"id", "GET", "/raft/stream/message/xyz", nil, "", 404, "invalid from"},
		{"removed", "GET", "/raft/stream/message/4", nil, "", 410, ""},
		{"unknown", "GET", "/raft/stream/msgapp/5", nil, "", 404, "error sender not found"},
		{"to", "GET", "/raft/stream/msgapp/1", map[string]string{headerTo: "3"}, "", 412, "to field mismatch"},
		{"post method", "GET", "/raft", nil, "", 405, "Method Not Allowed"},
		{"post garbage", "POST", "/raft", nil, "\xff\xff", 400, "error unmarshalling raft message"},
		{"post refused", "POST", "/raft", nil, "\x08\x02", 500, "error processing raft message"},
		{"snapshot type", "POST", "/raft/snapshot", nil, "\x00\x00\x00\x00\x00\x00\x00\x02\x08\x08", 400, "wrong raft message type"},
		{"snapshot garbage", "POST", "/raft/snapshot", nil, "\xff\xff\xff\xff\xff\xff\xff\xff", 400, "error reading raft message"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := http.NewRequest(c.method, b.url+c.path, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			for name, v := range good {
				if changed, ok := c.change[name]; ok {
					v = changed
				}
				if v != "" {
					r.Header.Set(name, v)
				}
			}
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			text, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != c.status || strings.TrimSpace(string(text)) != c.text {
				t.Errorf("got %d %q, want %d %q", resp.StatusCode, text, c.status, c.text)
			}
			if c.status != 405 && resp.Header.Get(headerCluster) != ids.Text(9) {
				t.Errorf("answer names cluster %q", resp.Header.Get(headerCluster))
			}
		})
	}
}
