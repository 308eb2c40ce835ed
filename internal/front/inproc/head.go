package inproc

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// head is the metadata that a service sends before and after its answer.
type head struct {
	method string
	sent   chan struct{} // closed when the header is fixed

	mu      sync.Mutex
	isSent  bool        // guarded by mu
	header  metadata.MD // guarded by mu
	trailer metadata.MD // guarded by mu
}

// newHead begins with what every gRPC answer over HTTP/2 has in its header;
// the gateway shows it to its users.
func newHead(method string) *head {
	return &head{method: method, sent: make(chan struct{}), header: metadata.Pairs("content-type", "application/grpc")}
}

// serverContext is the context of the service, in which grpc.SetHeader and the
// like find h.
func (h *head) serverContext(ctx context.Context) context.Context {
	return grpc.NewContextWithServerTransportStream(incoming(ctx), h)
}

// Method implements grpc.ServerTransportStream.
func (h *head) Method() string { return h.method }

// SetHeader implements grpc.ServerTransportStream.
func (h *head) SetHeader(md metadata.MD) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.header = metadata.Join(h.header, md)
	return nil
}

// SendHeader implements grpc.ServerTransportStream.
func (h *head) SendHeader(md metadata.MD) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.header = metadata.Join(h.header, md)
	if !h.isSent {
		h.isSent = true
		close(h.sent)
	}
	return nil
}

// SetTrailer implements grpc.ServerTransportStream.
func (h *head) SetTrailer(md metadata.MD) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.trailer = metadata.Join(h.trailer, md)
	return nil
}

// report gives the metadata to a caller who asked for it. A call that failed
// before its first message has no header.
func (h *head) report(opts []grpc.CallOption, withHeader bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, o := range opts {
		switch o := o.(type) {
		case grpc.HeaderCallOption:
			if withHeader {
				*o.HeaderAddr = h.header
			}
		case grpc.TrailerCallOption:
			*o.TrailerAddr = h.trailer
		}
	}
}

func (h *head) headerNow() metadata.MD {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.isSent {
		return nil
	}
	return h.header
}

func (h *head) trailerNow() metadata.MD {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.trailer
}
