package rpc

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/steledb/stele/internal/base/logs"
	"github.com/steledb/stele/internal/base/metrics"
)

// reading measures what is answered without going through the log, and tells
// of what took too long. Writes are measured where they are applied.
type reading struct {
	ranges      prometheus.Counter
	evaluation  *metrics.Outcomes // of ranges, without waiting for the quorum
	rangeAnswer *metrics.Outcomes // with it
	txnAnswer   *metrics.Outcomes
	slow        prometheus.Counter
	warnAfter   time.Duration // 0: never
	log         *slog.Logger
}

func newReading(opt Options) *reading {
	m := opt.Metrics
	if m == nil {
		m = metrics.New(metrics.Options{})
	}
	log := opt.Log
	if log == nil {
		log = logs.Discard()
	}
	return &reading{
		ranges: m.MVCC.Ranges, slow: m.Server.SlowApplies, warnAfter: opt.WarnRead, log: log,
		evaluation:  metrics.NewOutcomes(m.Server.RangeDuration, nil),
		rangeAnswer: metrics.NewOutcomes(m.Server.Request, prometheus.Labels{"type": "Range"}),
		txnAnswer:   metrics.NewOutcomes(m.Server.Request, prometheus.Labels{"type": "Txn"}),
	}
}

// didRange notes a range: begun is when it was asked for, waited how long the
// quorum took.
func (g *reading) didRange(r *pb.RangeRequest, resp *pb.RangeResponse, begun, waited time.Duration, err error) {
	took := time.Since(epoch) - begun
	g.ranges.Inc()
	g.evaluation.Observe(err == nil, took-waited)
	g.rangeAnswer.Observe(err == nil, took)
	if took > g.warnAfter && g.warnAfter > 0 {
		g.warn("read-only range ", r, rangeText(resp), took, err)
	}
}

// didTxn notes a transaction that only reads.
func (g *reading) didTxn(r *pb.TxnRequest, resp *pb.TxnResponse, begun time.Duration, err error) {
	took := time.Since(epoch) - begun
	ranges := countRanges(resp)
	g.ranges.Add(float64(ranges))
	g.txnAnswer.Observe(err == nil, took)
	if took > g.warnAfter && g.warnAfter > 0 {
		g.warn("read-only txn ", pb.NewLoggableTxnRequest(r), txnText(resp), took, err)
	}
}

func (g *reading) warn(prefix string, request fmt.Stringer, response string, took time.Duration, err error) {
	g.slow.Inc()
	g.log.Warn("apply request took too long", "took", took, "expected-duration", g.warnAfter,
		"prefix", prefix, "request", request.String(), "response", response, "error", err)
}

func rangeText(resp *pb.RangeResponse) string {
	if resp == nil {
		return ""
	}
	return fmt.Sprintf("range_response_count:%d size:%d", len(resp.Kvs), proto.Size(resp))
}

func txnText(resp *pb.TxnResponse) string {
	if resp == nil {
		return ""
	}
	return fmt.Sprintf("responses:<%d> size:%d", len(resp.Responses), proto.Size(resp))
}

func countRanges(resp *pb.TxnResponse) int {
	n := 0
	for _, op := range resp.GetResponses() {
		switch op := op.Response.(type) {
		case *pb.ResponseOp_ResponseRange:
			n++
		case *pb.ResponseOp_ResponseTxn:
			n += countRanges(op.ResponseTxn)
		}
	}
	return n
}
