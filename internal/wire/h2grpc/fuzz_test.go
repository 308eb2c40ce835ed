package h2grpc

import (
	"bytes"
	"context"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// pipes is a listener whose connections are made in memory.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

type fuzzService struct {
	pb.UnimplementedTestServiceServer
}

func (fuzzService) EmptyCall(context.Context, *pb.Empty) (*pb.Empty, error) { return &pb.Empty{}, nil }

func (fuzzService) StreamingInputCall(stream pb.TestService_StreamingInputCallServer) error {
	for {
		if _, err := stream.Recv(); err != nil {
			return err
		}
		if err := stream.SendMsg(&pb.StreamingInputCallResponse{}); err != nil {
			return err
		}
	}
}

// conversation is what a client might say, for the fuzzer to begin with.
func conversation(write func(fr *http2.Framer, block func(path string, extra ...string) []byte)) []byte {
	var b, hb bytes.Buffer
	b.WriteString(http2.ClientPreface)
	fr, enc := http2.NewFramer(&b, nil), hpack.NewEncoder(&hb)
	fr.AllowIllegalWrites = true
	_ = fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100})
	write(fr, func(path string, extra ...string) []byte {
		hb.Reset()
		for _, f := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", path}, {":authority", "x"}, {"content-type", "application/grpc"}} {
			_ = enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]})
		}
		for i := 0; i+1 < len(extra); i += 2 {
			_ = enc.WriteField(hpack.HeaderField{Name: extra[i], Value: extra[i+1]})
		}
		return bytes.Clone(hb.Bytes())
	})
	return b.Bytes()
}

const unaryPath, streamPath = "/grpc.testing.TestService/EmptyCall", "/grpc.testing.TestService/StreamingInputCall"

// Goal: whatever a client sends, the server neither panics nor hangs, and when
// the client has gone it holds nothing for it.
func FuzzConnection(f *testing.F) {
	headers := func(id uint32, block []byte, end bool) http2.HeadersFrameParam {
		return http2.HeadersFrameParam{StreamID: id, BlockFragment: block, EndHeaders: true, EndStream: end}
	}
	f.Add(conversation(func(fr *http2.Framer, block func(string, ...string) []byte) {
		_ = fr.WriteHeaders(headers(1, block(unaryPath, "grpc-timeout", "1S"), false))
		_ = fr.WriteData(1, true, []byte{0, 0, 0, 0, 0})
		_ = fr.WriteHeaders(headers(3, block(unaryPath, "grpc-encoding", "gzip"), false))
		_ = fr.WriteDataPadded(3, true, []byte{1, 0, 0, 0, 1, 0}, make([]byte, 10))
	}))
	f.Add(conversation(func(fr *http2.Framer, block func(string, ...string) []byte) {
		_ = fr.WriteHeaders(headers(1, block(streamPath, "x-bin", "AAA"), false))
		_ = fr.WriteData(1, false, []byte{0, 0, 0, 0, 2, 1})
		_ = fr.WriteData(1, false, []byte{2, 0, 0, 0, 0, 0})
		_ = fr.WriteWindowUpdate(1, 5)
		_ = fr.WriteWindowUpdate(0, 5)
		_ = fr.WriteRSTStream(1, http2.ErrCodeCancel)
		_ = fr.WritePing(false, [8]byte{})
		_ = fr.WriteGoAway(0, 0, nil)
	}))
	f.Add(conversation(func(fr *http2.Framer, block func(string, ...string) []byte) {
		b := block(streamPath, "content-length", "10")
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: b[:3], Priority: http2.PriorityParam{StreamDep: 7, Weight: 3}})
		_ = fr.WriteContinuation(1, true, b[3:])
		_ = fr.WritePriority(1, http2.PriorityParam{StreamDep: 3})
		_ = fr.WriteData(1, false, []byte{0, 0xff, 0xff, 0xff, 0xff, 0})
		_ = fr.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
		_ = fr.WriteRawFrame(0x77, 3, 9, []byte("?"))
	}))

	l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	s := NewServer(Options{Quick: map[string]func([]byte) bool{unaryPath: func(r []byte) bool { return len(r) == 0 }}})
	pb.RegisterTestServiceServer(s, fuzzService{})
	go func() { _ = s.Serve(l) }()
	f.Cleanup(s.Stop)
	f.Fuzz(func(t *testing.T, in []byte) {
		client, server := net.Pipe()
		l.conns <- server
		read := make(chan struct{})
		go func() { _, _ = io.Copy(io.Discard, client); close(read) }()
		_ = client.SetWriteDeadline(time.Now().Add(5 * time.Second))
		if _, err := client.Write(in); err != nil && !isHangUp(err) {
			t.Fatal("the server hangs:", err)
		}
		_ = client.Close()
		<-read
		for end := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Microsecond) {
			held, loaned, queued := s.Held()
			if len(s.allConns()) == 0 && held+loaned+queued == 0 {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("the client is gone and the server holds %d bytes, %d lent, %d queued", held, loaned, queued)
			}
		}
	})
}

func isHangUp(err error) bool {
	ne, ok := err.(net.Error)
	return !ok || !ne.Timeout()
}

// Goal: frames are read as x/net's Framer reads them.
func FuzzFrame(f *testing.F) {
	f.Add([]byte{0, 0, 3, 0, 9, 0x80, 0, 0, 1, 1, 'a', 0})
	f.Add([]byte{0, 0, 6, 1, 0x24, 0, 0, 0, 1, 0x80, 0, 0, 1, 5, 0x88})
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		got, n, err := parseFrame(in)
		h, headErr := http2.ReadFrameHeader(bytes.NewReader(in))
		if headErr != nil {
			if n != 0 || err != nil {
				t.Fatalf("half a head gives %v %d %v", got, n, err)
			}
			return
		}
		switch {
		case h.Length > frameMax:
			if err == nil {
				t.Fatal("a frame that is too long is taken")
			}
		case len(in) < frameHeaderLen+int(h.Length):
			if n != 0 || err != nil {
				t.Fatalf("half a frame gives %v %d %v", got, n, err)
			}
		case got.kind != h.Type || got.flags != h.Flags || got.stream != h.StreamID || len(got.payload) != int(h.Length):
			t.Fatalf("%v, want %v", got, h)
		}
	})
}

// Goal: the header blocks we write say what was meant, with and without the
// table, in any order. Method: x/net's decoder on the other side.
func FuzzHeadWriter(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 1, 0}, "message", "value", 5)
	f.Add([]byte{3, 0, 1, 5, 2, 2}, "100% \x00\xff ☺", string(make([]byte, 300)), 0)
	f.Fuzz(func(t *testing.T, steps []byte, message, value string, code int) {
		w, dec := &headWriter{}, hpack.NewDecoder(4096, nil)
		st := status.New(codes.Code(uint32(code)), message)
		for _, step := range steps {
			var b []byte
			want := map[string]string{}
			switch step % 5 {
			case 0:
				b, want = w.appendHead(nil), map[string]string{":status": "200", "content-type": contentType}
			case 1:
				b, want["grpc-status"] = w.appendStatus(nil, statusOK, false), "0"
			case 2:
				b = appendMetadata(w.appendStatus(nil, st, false), metadata.MD{"x": {value}})
				want["x"], want["grpc-status"] = value, strconv.Itoa(int(st.Code()))
				if want["grpc-message"] = encodeMessage(message); st.Code() == 0 && message == "" {
					delete(want, "grpc-message")
				}
				if st.Code() == 0 { // status.New drops the message of OK on the way
					continue
				}
			case 3:
				b, want = w.appendRefusal(nil, 415), map[string]string{":status": "415", "content-type": contentType}
			case 4:
				w.dropTable()
				continue
			}
			fields, err := dec.DecodeFull(b)
			if err != nil || len(fields) != len(want) {
				t.Fatalf("%x: %v %v, want %v", b, fields, err, want)
			}
			for _, f := range fields {
				if want[f.Name] != f.Value {
					t.Fatalf("%v, want %v", fields, want)
				}
			}
		}
	})
}
