package kv

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/steledb/stele/internal/base/scenario"
)

// The scripts tell what requests mean. Commands, with keys and values that may
// be written with Go's escapes:
//
//	lease ID                       grants one; with the word gone revokes it
//	put KEY VALUE [lease= prev ignore_value ignore_lease]
//	range KEY [END] [rev= limit= order= target= min_mod= ... keys_only count_only]
//	stream ...                     the same in chunks of two keys
//	del KEY [END] [prev]
//	compact REV
//	txn                            with lines below, nested ones indented:
//	  if TARGET KEY[..END] OP X    OP is = != < >
//	  then COMMAND, else COMMAND
func TestStories(t *testing.T) {
	scenario.RunAll(t, "testdata/*.txt", func(t *testing.T) func(scenario.Command) string {
		w := newWorld(t)
		return func(c scenario.Command) string { return w.tell(c) }
	})
}

func (w *world) tell(c scenario.Command) string {
	switch c.Name {
	case "lease":
		if c.Has("gone") {
			w.revoke(c.Int(0))
			return fmt.Sprintf("rev %d", w.store.Rev())
		}
		w.book.exist[c.Int(0)] = true
		return "granted"
	case "compact":
		return outcomeOf(w.compact(&pb.CompactionRequest{Revision: c.Int(0)}))
	case "stream":
		return w.tellStream(rangeOf(words(c)))
	case "leases":
		return w.tellLeases()
	case "txn":
		req, rest := parseTxn(c.Input, "")
		if len(rest) > 0 {
			w.t.Fatalf("cannot read %q", rest[0])
		}
		return outcomeOf(w.txn(req))
	}
	op := parseOp(append([]string{c.Name}, words(c)...))
	switch {
	case op.GetRequestRange() != nil:
		return outcomeOf(w.rangeBoth(op.GetRequestRange()))
	case op.GetRequestPut() != nil:
		return outcomeOf(w.put(op.GetRequestPut()))
	}
	return outcomeOf(w.deleteRange(op.GetRequestDeleteRange()))
}

// words are the arguments of a command in one list again.
func words(c scenario.Command) []string {
	out := append([]string(nil), c.Args...)
	for k, v := range c.Named {
		out = append(out, k+"="+v)
	}
	return out
}

func (w *world) tellStream(req *pb.RangeRequest) string {
	if err := CheckStream(req); err != nil {
		return err.Error()
	}
	var out []string
	err := w.view(func(r Reader) error {
		s, err := NewStream(r, req, StreamOptions{ChunkKeys: 2})
		if err != nil {
			return err
		}
		for last := false; !last; {
			var chunk *pb.RangeStreamResponse
			if chunk, last, err = s.Next(); err != nil {
				return err
			}
			out = append(out, strings.TrimSuffix("chunk"+showRange(chunk.RangeResponse, inChunk), "\n"))
		}
		return nil
	})
	if err != nil {
		return err.Error()
	}
	return strings.Join(out, "\n")
}

func (w *world) tellLeases() string {
	var out strings.Builder
	for _, id := range []int64{7, 8} {
		if w.book.exist[id] {
			fmt.Fprintf(&out, "%d:%s\n", id, strings.Join(append([]string{""}, w.book.keys(id)...), " "))
		}
	}
	return out.String()
}

// Reading requests.

func unquote(s string) []byte {
	if s == "-" {
		return nil
	}
	u, err := strconv.Unquote(`"` + s + `"`)
	if err != nil {
		panic(fmt.Sprintf("%s: %v", s, err))
	}
	return []byte(u)
}

func parseOp(words []string) *pb.RequestOp {
	switch words[0] {
	case "put":
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: putOf(words[1:])}}
	case "range":
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: rangeOf(words[1:])}}
	case "del":
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: delOf(words[1:])}}
	case "nothing":
		return &pb.RequestOp{}
	}
	panic("no operation " + words[0])
}

// split sorts words into keys, flags and named values.
func split(words []string) (plain []string, named map[string]string) {
	named = map[string]string{}
	for _, word := range words {
		name, value, ok := strings.Cut(word, "=")
		switch {
		case ok:
			named[name] = value
		case strings.Contains(" prev ignore_value ignore_lease keys_only count_only ", " "+word+" "):
			named[word] = "yes"
		default:
			plain = append(plain, word)
		}
	}
	return append(plain, "-", "-"), named
}

func number(s string) int64 {
	if s == "" {
		return 0
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

func putOf(words []string) *pb.PutRequest {
	plain, named := split(words)
	return &pb.PutRequest{
		Key: unquote(plain[0]), Value: unquote(plain[1]), Lease: number(named["lease"]),
		PrevKv: named["prev"] != "", IgnoreValue: named["ignore_value"] != "", IgnoreLease: named["ignore_lease"] != "",
	}
}

func delOf(words []string) *pb.DeleteRangeRequest {
	plain, named := split(words)
	return &pb.DeleteRangeRequest{Key: unquote(plain[0]), RangeEnd: unquote(plain[1]), PrevKv: named["prev"] != ""}
}

func rangeOf(words []string) *pb.RangeRequest {
	plain, named := split(words)
	enum := func(values map[string]int32, name string) int32 {
		if v, ok := values[strings.ToUpper(name)]; ok {
			return v
		}
		return int32(number(name))
	}
	return &pb.RangeRequest{
		Key: unquote(plain[0]), RangeEnd: unquote(plain[1]),
		Revision: number(named["rev"]), Limit: number(named["limit"]),
		SortOrder:      pb.RangeRequest_SortOrder(enum(pb.RangeRequest_SortOrder_value, named["order"])),
		SortTarget:     pb.RangeRequest_SortTarget(enum(pb.RangeRequest_SortTarget_value, named["target"])),
		MinModRevision: number(named["min_mod"]), MaxModRevision: number(named["max_mod"]),
		MinCreateRevision: number(named["min_create"]), MaxCreateRevision: number(named["max_create"]),
		KeysOnly: named["keys_only"] != "", CountOnly: named["count_only"] != "",
	}
}

// parseTxn reads the lines of one transaction that are indented by indent, and
// returns the lines after it.
func parseTxn(lines []string, indent string) (*pb.TxnRequest, []string) {
	req := &pb.TxnRequest{}
	for len(lines) > 0 {
		line, mine := strings.CutPrefix(lines[0], indent)
		if !mine || strings.HasPrefix(line, " ") {
			break
		}
		lines = lines[1:]
		words := strings.Fields(line)
		var op *pb.RequestOp
		switch {
		case words[0] == "if":
			req.Compare = append(req.Compare, parseCompare(words[1:]))
			continue
		case words[1] == "txn":
			var nested *pb.TxnRequest
			nested, lines = parseTxn(lines, indent+"  ")
			op = &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: nested}}
		default:
			op = parseOp(words[1:])
		}
		if words[0] == "then" {
			req.Success = append(req.Success, op)
		} else {
			req.Failure = append(req.Failure, op)
		}
	}
	return req, lines
}

func parseCompare(words []string) *pb.Compare {
	key, end, _ := strings.Cut(words[1], "..")
	c := &pb.Compare{Key: unquote(key)}
	if end != "" {
		c.RangeEnd = unquote(end)
	}
	target, known := pb.Compare_CompareTarget_value[strings.ToUpper(words[0])]
	if !known {
		target = int32(number(words[0]))
	}
	c.Target = pb.Compare_CompareTarget(target)
	result, known := map[string]pb.Compare_CompareResult{"=": 0, ">": 1, "<": 2, "!=": 3}[words[2]]
	if !known {
		result = pb.Compare_CompareResult(number(words[2]))
	}
	c.Result = result
	if len(words) > 3 {
		setTarget(c, words[3])
	}
	return c
}

func setTarget(c *pb.Compare, x string) {
	switch c.Target {
	case pb.Compare_VALUE:
		c.TargetUnion = &pb.Compare_Value{Value: unquote(x)}
	case pb.Compare_VERSION:
		c.TargetUnion = &pb.Compare_Version{Version: number(x)}
	case pb.Compare_CREATE:
		c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: number(x)}
	case pb.Compare_MOD:
		c.TargetUnion = &pb.Compare_ModRevision{ModRevision: number(x)}
	case pb.Compare_LEASE:
		c.TargetUnion = &pb.Compare_Lease{Lease: number(x)}
	}
}

// Writing answers.

func outcomeOf(resp any, err error) string {
	if err != nil {
		return err.Error()
	}
	return show(resp, "")
}

func show(resp any, indent string) string {
	switch resp := resp.(type) {
	case *pb.RangeResponse:
		return showRange(resp, indent)
	case *pb.PutResponse:
		s := fmt.Sprintf("put, rev %d\n", resp.Header.Revision)
		if resp.PrevKv != nil {
			s += indent + "  was " + showKV(resp.PrevKv)
		}
		return s
	case *pb.DeleteRangeResponse:
		s := fmt.Sprintf("deleted %d, rev %d\n", resp.Deleted, resp.Header.Revision)
		for _, kv := range resp.PrevKvs {
			s += indent + "  was " + showKV(kv)
		}
		return s
	case *pb.CompactionResponse:
		return fmt.Sprintf("compacted, rev %d\n", resp.Header.Revision)
	case *pb.TxnResponse:
		return showTxn(resp, indent)
	}
	return fmt.Sprint(resp)
}

const inChunk = "chunk" // in the place of an indent: stands behind that word

func showRange(resp *pb.RangeResponse, indent string) string {
	s := ""
	if resp.Header != nil {
		s = fmt.Sprintf(" count %d, rev %d", resp.Count, resp.Header.Revision)
	}
	if resp.More {
		s += ", more"
	}
	if indent != inChunk {
		s = strings.TrimPrefix(s, " ")
	} else {
		indent = ""
	}
	s += "\n"
	for _, kv := range resp.Kvs {
		s += indent + "  " + showKV(kv)
	}
	return s
}

func showKV(kv *mvccpb.KeyValue) string {
	s := fmt.Sprintf("%s = %q (create %d mod %d version %d", strings.Trim(strconv.Quote(string(kv.Key)), `"`), kv.Value,
		kv.CreateRevision, kv.ModRevision, kv.Version)
	if kv.Lease != 0 {
		s += fmt.Sprintf(" lease %d", kv.Lease)
	}
	return s + ")\n"
}

func showTxn(resp *pb.TxnResponse, indent string) string {
	branch := "else"
	if resp.Succeeded {
		branch = "then"
	}
	s := fmt.Sprintf("%s, rev %d\n", branch, resp.Header.Revision)
	for _, r := range resp.Responses {
		s += indent + "  "
		switch {
		case r.GetResponseRange() != nil:
			s += show(r.GetResponseRange(), indent+"  ")
		case r.GetResponsePut() != nil:
			s += show(r.GetResponsePut(), indent+"  ")
		case r.GetResponseDeleteRange() != nil:
			s += show(r.GetResponseDeleteRange(), indent+"  ")
		default:
			s += show(r.GetResponseTxn(), indent+"  ")
		}
	}
	return s
}
