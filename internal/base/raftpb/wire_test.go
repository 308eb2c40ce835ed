package raftpb

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// capture is one recorded frame between two real members.
type capture struct {
	Stream  string          `json:"stream"`
	Frame   string          `json:"frame"`
	Kind    string          `json:"kind"`
	Message *capturedFields `json:"message"`
}

type capturedFields struct {
	Type    string `json:"type"`
	To      uint64 `json:"to"`
	From    uint64 `json:"from"`
	Term    uint64 `json:"term"`
	LogTerm uint64 `json:"logTerm"`
	Index   uint64 `json:"index"`
	Commit  uint64 `json:"commit"`
	Vote    uint64 `json:"vote"`
	Reject  any    `json:"reject"`
	Hint    uint64 `json:"rejectHint"`
	Context string `json:"context"`
	Entries []struct {
		Type  int    `json:"type"`
		Term  uint64 `json:"term"`
		Index uint64 `json:"index"`
		Data  string `json:"data"`
	} `json:"entries"`
	Snapshot *struct {
		Metadata string `json:"metadata"`
	} `json:"snapshot"`
}

var messageNames = map[MessageType]string{
	MsgProp: "MsgProp", MsgApp: "MsgApp", MsgAppResp: "MsgAppResp", MsgVote: "MsgVote", MsgVoteResp: "MsgVoteResp",
	MsgSnap: "MsgSnap", MsgHeartbeat: "MsgHeartbeat", MsgHeartbeatResp: "MsgHeartbeatResp", MsgTimeoutNow: "MsgTimeoutNow",
	MsgReadIndex: "MsgReadIndex", MsgReadIndexResp: "MsgReadIndexResp", MsgPreVote: "MsgPreVote", MsgPreVoteResp: "MsgPreVoteResp",
}

func text(m *Message) string {
	var b strings.Builder
	fmt.Fprint(&b, messageNames[m.Type], m.To, m.From, m.Term, m.LogTerm, m.Index, m.Commit, m.Vote, m.Reject, m.RejectHint, hex.EncodeToString(m.Context))
	for _, e := range m.Entries {
		fmt.Fprint(&b, " ", e.Type, e.Term, e.Index, hex.EncodeToString(e.Data))
	}
	return b.String()
}

func (c *capturedFields) text() string {
	var b strings.Builder
	reject := c.Reject == true || c.Reject == 1.0
	fmt.Fprint(&b, c.Type, c.To, c.From, c.Term, c.LogTerm, c.Index, c.Commit, c.Vote, reject, c.Hint, strings.TrimPrefix(c.Context, "hex:"))
	for _, e := range c.Entries {
		fmt.Fprint(&b, " ", EntryType(e.Type), e.Term, e.Index, e.Data)
	}
	return b.String()
}

func captures(t *testing.T, path string) (all []capture) {
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var c capture
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

// Frames recorded between members of etcd 3.4 to 3.7 decode to the fields the
// recorder saw; those of 3.7 encode to the same bytes again.
func TestRecordedFrames(t *testing.T) {
	paths, _ := filepath.Glob("../../../../shared/fixtures/v3.*-wire.jsonl")
	if len(paths) == 0 {
		t.Skip("no recorded frames beside the repository")
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			is37 := strings.HasPrefix(filepath.Base(path), "v3.7")
			messages, entries := 0, 0
			for _, c := range captures(t, path) {
				frame := unhex(t, c.Frame)
				switch {
				case c.Kind == "message" && c.Frame != "":
					messages++
					checkMessage(t, messageBytes(c.Stream, frame), c.Message, is37)
				case c.Kind == "append-entries":
					entries += checkEntries(t, frame, is37)
				}
			}
			if messages == 0 || entries == 0 {
				t.Errorf("%d messages and %d entries in the capture", messages, entries)
			}
		})
	}
}

// messageBytes strips what frames a message on its stream.
func messageBytes(stream string, frame []byte) []byte {
	switch stream {
	case "msgapp":
		return frame[9:] // kind, length
	case "message":
		return frame[8:] // length
	}
	return frame
}

func checkMessage(t *testing.T, b []byte, want *capturedFields, reencode bool) {
	t.Helper()
	var m Message
	if err := m.Unmarshal(b); err != nil {
		t.Fatalf("%x: %v", b, err)
	}
	if got := text(&m); got != want.text() {
		t.Errorf("decoded\n %s, recorded\n %s", got, want.text())
	}
	if reencode && !bytes.Equal(m.Marshal(), b) {
		t.Errorf("%s encodes as\n %x, recorded\n %x", text(&m), m.Marshal(), b)
	}
}

func checkEntries(t *testing.T, frame []byte, reencode bool) (n int) {
	t.Helper()
	count := binary.BigEndian.Uint64(frame[1:])
	frame = frame[9:]
	for range count {
		size := binary.BigEndian.Uint64(frame)
		b := frame[8 : 8+size]
		frame = frame[8+size:]
		var e Entry
		if err := e.Unmarshal(b); err != nil {
			t.Fatalf("%x: %v", b, err)
		}
		if reencode && !bytes.Equal(e.Marshal(), b) {
			t.Errorf("%+v encodes as %x, recorded %x", e, e.Marshal(), b)
		}
		n++
	}
	return n
}
