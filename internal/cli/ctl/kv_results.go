package ctl

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

func rangeResult(resp *pb.RangeResponse) result {
	return result{
		simple: func(p *printer) { p.rangeSimple(resp) },
		fields: func(p *printer) { p.rangeFields(resp) },
		json:   resp,
		proto:  resp,
	}
}

func (p *printer) rangeSimple(resp *pb.RangeResponse) {
	for _, kv := range resp.Kvs {
		p.kv(kv)
	}
}

func (p *printer) rangeFields(resp *pb.RangeResponse) {
	p.header(resp.Header)
	for _, kv := range resp.Kvs {
		p.kvFields("", kv)
	}
	p.field("More", resp.More)
	p.field("Count", resp.Count)
}

// valuesOnly is `get --print-value-only`, which exists in simple form only.
func valuesOnly(resp *pb.RangeResponse) result {
	return result{simple: func(p *printer) {
		for _, kv := range resp.Kvs {
			p.bytes(kv.Value)
		}
	}}
}

func putResult(resp *pb.PutResponse) result {
	return result{
		simple: func(p *printer) { p.putSimple(resp) },
		fields: func(p *printer) { p.putFields(resp) },
		json:   resp,
		proto:  resp,
	}
}

func (p *printer) putSimple(resp *pb.PutResponse) {
	p.line("OK")
	if resp.PrevKv != nil {
		p.kv(resp.PrevKv)
	}
}

func (p *printer) putFields(resp *pb.PutResponse) {
	p.header(resp.Header)
	if resp.PrevKv != nil {
		p.kvFields("Prev", resp.PrevKv)
	}
}

func delResult(resp *pb.DeleteRangeResponse) result {
	return result{
		simple: func(p *printer) { p.delSimple(resp) },
		fields: func(p *printer) { p.delFields(resp) },
		json:   resp,
		proto:  resp,
	}
}

func (p *printer) delSimple(resp *pb.DeleteRangeResponse) {
	p.line("%d", resp.Deleted)
	for _, kv := range resp.PrevKvs {
		p.kv(kv)
	}
}

func (p *printer) delFields(resp *pb.DeleteRangeResponse) {
	p.header(resp.Header)
	p.field("Deleted", resp.Deleted)
	for _, kv := range resp.PrevKvs {
		p.kvFields("Prev", kv)
	}
}

func txnResult(resp *pb.TxnResponse) result {
	return result{
		simple: func(p *printer) { p.txnSimple(resp) },
		fields: func(p *printer) { p.txnFields(resp) },
		json:   newTxnJSON(resp),
		proto:  resp,
	}
}

func (p *printer) txnSimple(resp *pb.TxnResponse) {
	outcome := "FAILURE"
	if resp.Succeeded {
		outcome = "SUCCESS"
	}
	p.line("%s", outcome)
	for _, op := range resp.Responses {
		p.line("")
		switch r := op.Response.(type) {
		case *pb.ResponseOp_ResponseRange:
			p.rangeSimple(r.ResponseRange)
		case *pb.ResponseOp_ResponsePut:
			p.putSimple(r.ResponsePut)
		case *pb.ResponseOp_ResponseDeleteRange:
			p.delSimple(r.ResponseDeleteRange)
		case *pb.ResponseOp_ResponseTxn:
			p.txnSimple(r.ResponseTxn)
		}
	}
}

func (p *printer) txnFields(resp *pb.TxnResponse) {
	p.header(resp.Header)
	p.field("Succeeded", resp.Succeeded)
	for _, op := range resp.Responses {
		switch r := op.Response.(type) {
		case *pb.ResponseOp_ResponseRange:
			p.rangeFields(r.ResponseRange)
		case *pb.ResponseOp_ResponsePut:
			p.putFields(r.ResponsePut)
		case *pb.ResponseOp_ResponseDeleteRange:
			p.delFields(r.ResponseDeleteRange)
		case *pb.ResponseOp_ResponseTxn:
			p.txnFields(r.ResponseTxn)
		}
	}
}

// txnJSON is a transaction's answer in JSON. It differs from the message only
// in the operations: the generated union type has no JSON names.
type txnJSON struct {
	Header    *pb.ResponseHeader `json:"header,omitempty"`
	Succeeded bool               `json:"succeeded,omitempty"`
	Responses []opJSON           `json:"responses,omitempty"`
}

// opJSON is {"Response":{"response_put":{...}}} and so on.
type opJSON struct {
	Response map[string]any
}

func newTxnJSON(resp *pb.TxnResponse) txnJSON {
	out := txnJSON{Header: resp.Header, Succeeded: resp.Succeeded}
	for _, op := range resp.Responses {
		out.Responses = append(out.Responses, newOpJSON(op))
	}
	return out
}

func newOpJSON(op *pb.ResponseOp) opJSON {
	name, value := "", any(nil)
	switch r := op.Response.(type) {
	case *pb.ResponseOp_ResponseRange:
		name, value = "response_range", r.ResponseRange
	case *pb.ResponseOp_ResponsePut:
		name, value = "response_put", r.ResponsePut
	case *pb.ResponseOp_ResponseDeleteRange:
		name, value = "response_delete_range", r.ResponseDeleteRange
	case *pb.ResponseOp_ResponseTxn:
		name, value = "response_txn", newTxnJSON(r.ResponseTxn)
	default:
		return opJSON{}
	}
	return opJSON{Response: map[string]any{name: value}}
}

func (p *printer) event(ev *mvccpb.Event) {
	p.line("%s", ev.Type)
	if ev.PrevKv != nil {
		p.kv(ev.PrevKv)
	}
	p.kv(ev.Kv)
}

func (p *printer) eventFields(ev *mvccpb.Event) {
	p.field("Type", ev.Type)
	if ev.PrevKv != nil {
		p.kvFields("Prev", ev.PrevKv)
	}
	p.kvFields("", ev.Kv)
}
