package alarm

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/base/scenario"
)

// The scripts in testdata tell what raising and clearing alarms does.
func TestScenarios(t *testing.T) {
	scenario.RunAll(t, "testdata/*.txt", func(t *testing.T) func(scenario.Command) string {
		s, stored := New(), map[string]bool{}
		return func(c scenario.Command) string {
			switch c.Name {
			case "restart":
				s = New()
				for key := range stored {
					if err := s.Load([]byte(key)); err != nil {
						t.Fatal(err)
					}
				}
				return fmt.Sprint(s.Get(pb.AlarmType_NONE))
			case "has":
				return fmt.Sprint(s.Has(pb.AlarmType(c.Int(0))))
			}
			action, ok := pb.AlarmRequest_AlarmAction_value[strings.ToUpper(c.Name)]
			if !ok {
				action = 9
			}
			r := &pb.AlarmRequest{
				Action:   pb.AlarmRequest_AlarmAction(action),
				MemberID: uint64(c.NamedInt("member", 0)),
				Alarm:    pb.AlarmType(c.NamedInt("type", 0)),
			}
			alarms, ops, err := s.Apply(r)
			if err != nil {
				return err.Error()
			}
			out := fmt.Sprintln(alarms)
			for _, op := range ops {
				stored[string(op.Key)] = true
				if op.Delete {
					delete(stored, string(op.Key))
				}
				out += fmt.Sprintf("  %s %x delete=%v\n", op.Bucket, op.Key, op.Delete)
			}
			return out
		}
	})
}

// The bytes of a record are those that the API's own message has, for known and
// unknown types.
func TestRecordBytes(t *testing.T) {
	for _, a := range []Alarm{{1, pb.AlarmType_NOSPACE}, {0, pb.AlarmType_CORRUPT}, {1 << 63, 9}, {5, -1}, {}} {
		want, err := proto.Marshal(a.Proto())
		if err != nil {
			t.Fatal(err)
		}
		if got := a.encode(); string(got) != string(want) {
			t.Errorf("%v is written as %x, want %x", a, got, want)
		}
		if back, err := decode(a.encode()); err != nil || back != a {
			t.Errorf("%v came back as %v, %v", a, back, err)
		}
	}
	if err := New().Load([]byte{0x08}); err == nil {
		t.Error("half a record was taken")
	}
}

func FuzzRecord(f *testing.F) {
	f.Add(Alarm{1 << 63, pb.AlarmType_NOSPACE}.encode())
	f.Add(Alarm{0, 9}.encode())
	f.Add([]byte{0x1a, 0x00})
	f.Fuzz(func(t *testing.T, key []byte) {
		a, err := decode(key)
		if err != nil {
			return
		}
		if back, err := decode(a.encode()); err != nil || back != a {
			t.Fatalf("%v came back as %v, %v", a, back, err)
		}
	})
}

// An unknown action can be told before anything is proposed.
func TestCheck(t *testing.T) {
	for action, want := range map[pb.AlarmRequest_AlarmAction]error{0: nil, 1: nil, 2: nil, 3: ErrUnknownAction, -1: ErrUnknownAction} {
		if got := Check(&pb.AlarmRequest{Action: action}); got != want {
			t.Errorf("action %d: %v, want %v", action, got, want)
		}
	}
}

// The answers of etcd 3.7.1, recorded.
func TestRecordedAnswers(t *testing.T) {
	files, _ := filepath.Glob("../../../../shared/oracle/corpus/maint-*.jsonl.gz")
	if len(files) == 0 {
		t.Skip("no recordings here")
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { replay(t, file) })
	}
}

func replay(t *testing.T, file string) {
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	s, n := New(), 0
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var step struct {
			Method    string
			Req, Resp json.RawMessage
		}
		if err := json.Unmarshal(lines.Bytes(), &step); err != nil {
			t.Fatal(err)
		}
		if step.Method != "/etcdserverpb.Maintenance/Alarm" || step.Resp == nil {
			continue
		}
		var req pb.AlarmRequest
		var resp pb.AlarmResponse
		if protojson.Unmarshal(step.Req, &req) != nil || protojson.Unmarshal(step.Resp, &resp) != nil {
			t.Fatalf("cannot read %s", lines.Bytes())
		}
		alarms, _, err := s.Apply(&req)
		if err != nil {
			t.Fatal(err)
		}
		want := map[Alarm]bool{}
		for _, m := range resp.Alarms {
			want[Alarm{m.MemberID, m.Alarm}] = true
		}
		for _, a := range alarms {
			if !want[a] {
				t.Fatalf("%s\nhas no %v", lines.Bytes(), a)
			}
		}
		if len(alarms) != len(want) {
			t.Fatalf("%s\ngot %v", lines.Bytes(), alarms)
		}
		n++
	}
	if n == 0 {
		t.Skip("no alarms in this file")
	}
}
