package ctl

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/cli/table"
)

// format is a value of --write-out.
type format string

const (
	formatSimple   format = "simple"
	formatJSON     format = "json"
	formatFields   format = "fields"
	formatTable    format = "table"
	formatProtobuf format = "protobuf"
)

// result is one answer in all the forms it can be shown in. A nil form is not
// supported for this answer.
type result struct {
	simple func(p *printer)
	fields func(p *printer)
	table  func(p *printer)
	json   any
	proto  proto.Message
}

// printer writes results to standard output, each in one piece, so that an
// answer is not torn when output is shared with an exec'd command.
type printer struct {
	w      io.Writer
	format format
	hex    bool
	buf    bytes.Buffer // the result being written
}

func newPrinter(w io.Writer, name string, hex bool) (*printer, error) {
	switch f := format(name); f {
	case formatSimple, formatJSON, formatFields, formatTable, formatProtobuf:
		return &printer{w: w, format: f, hex: hex}, nil
	}
	return nil, &exitError{exitBadFeature, errors.New("unsupported output format")}
}

// show writes r in the chosen format.
func (p *printer) show(r result) error {
	if !p.render(r) {
		return badFeature("%s not supported as output format", p.format)
	}
	_, err := p.buf.WriteTo(p.w)
	return err
}

// render fills buf and reports whether r has the chosen form.
func (p *printer) render(r result) bool {
	p.buf.Reset()
	switch p.format {
	case formatJSON:
		return r.json != nil && p.json(r.json)
	case formatProtobuf:
		return r.proto != nil && p.protobuf(r.proto)
	case formatFields:
		return p.call(r.fields)
	case formatTable:
		return p.call(r.table)
	}
	return p.call(r.simple)
}

func (p *printer) call(form func(*printer)) bool {
	if form == nil {
		return false
	}
	form(p)
	return true
}

func (p *printer) json(v any) bool {
	text, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("ctl: result %T does not marshal: %v", v, err)) // our own types only
	}
	p.line("%s", text)
	return true
}

func (p *printer) protobuf(m proto.Message) bool {
	data, err := proto.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("ctl: result %T does not marshal: %v", m, err))
	}
	p.buf.Write(data)
	return true
}

func (p *printer) line(format string, args ...any) {
	fmt.Fprintf(&p.buf, format+"\n", args...)
}

// bytes prints a key or value on a line of its own.
func (p *printer) bytes(b []byte) {
	if p.hex {
		p.line("%s", hexBytes(b))
		return
	}
	p.buf.Write(b)
	p.buf.WriteByte('\n')
}

// hexBytes writes b as \x01\x02.
func hexBytes(b []byte) string {
	const digits = "0123456789abcdef"
	var s strings.Builder
	for _, c := range b {
		s.WriteString(`\x`)
		s.WriteByte(digits[c>>4])
		s.WriteByte(digits[c&15])
	}
	return s.String()
}

func (p *printer) kv(kv *mvccpb.KeyValue) {
	p.bytes(kv.Key)
	p.bytes(kv.Value)
}

// table draws a box; writing to memory cannot fail.
func (p *printer) table(header []string, rows [][]string) { _ = table.Write(&p.buf, header, rows) }

// field prints one line of the fields format.
func (p *printer) field(name string, value any) { p.line("%q : %v", name, value) }

func (p *printer) quoted(name string, value []byte) { p.line("%q : %q", name, value) }

// id prints a member or cluster id.
func (p *printer) id(name string, id uint64) {
	if p.hex {
		p.line("%q : %x", name, id)
		return
	}
	p.field(name, id)
}

// lease prints a lease id.
func (p *printer) lease(name string, id int64) {
	if p.hex {
		p.line("%q : %016x", name, id)
		return
	}
	p.field(name, id)
}

// header prints a response header; answers that do not carry a revision show none.
func (p *printer) header(h *pb.ResponseHeader) {
	p.id("ClusterID", h.GetClusterId())
	p.id("MemberID", h.GetMemberId())
	if h.GetRevision() != 0 {
		p.field("Revision", h.GetRevision())
	}
	p.field("RaftTerm", h.GetRaftTerm())
}

// kvFields prints a key-value; prefix is "" or "Prev".
func (p *printer) kvFields(prefix string, kv *mvccpb.KeyValue) {
	p.quoted(prefix+"Key", kv.Key)
	p.field(prefix+"CreateRevision", kv.CreateRevision)
	p.field(prefix+"ModRevision", kv.ModRevision)
	p.field(prefix+"Version", kv.Version)
	p.quoted(prefix+"Value", kv.Value)
	p.lease(prefix+"Lease", kv.Lease)
}

// headerOnly is the fields form of an answer with nothing but a header.
func headerOnly(h *pb.ResponseHeader) func(*printer) {
	return func(p *printer) { p.header(h) }
}

// text is the simple form of an answer that is one sentence.
func text(format string, args ...any) func(*printer) {
	return func(p *printer) { p.line(format, args...) }
}

// done is an answer that simple output confirms with a sentence and other
// formats show as it came; fields show the header.
func done(resp interface {
	proto.Message
	GetHeader() *pb.ResponseHeader
}, format string, args ...any) result {
	return result{
		simple: text(format, args...),
		fields: headerOnly(resp.GetHeader()),
		json:   resp,
		proto:  resp,
	}
}
