package concurrencypb

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/reflect/protoreflect"
)

var lockFile = file("v3lockpb", []message{
	{"LockRequest", fields{bytesField("name"), int64Field("lease")}},
	{"LockResponse", fields{headerField, bytesField("key")}},
	{"UnlockRequest", fields{bytesField("key")}},
	{"UnlockResponse", fields{headerField}},
})

var (
	lockRequestInfo    = info(lockFile, (*LockRequest)(nil))
	lockResponseInfo   = info(lockFile, (*LockResponse)(nil))
	unlockRequestInfo  = info(lockFile, (*UnlockRequest)(nil))
	unlockResponseInfo = info(lockFile, (*UnlockResponse)(nil))
)

// LockRequest asks for a lock on a name. A lease of 0 stands for a new one of 60 seconds.
type LockRequest struct {
	XXX_unrecognized []byte `json:"-"` // fields of a newer version, kept

	Name  []byte `protobuf:"bytes,1,opt,name=name,proto3" json:"name,omitempty"`
	Lease int64  `protobuf:"varint,2,opt,name=lease,proto3" json:"lease,omitempty"`
}

func (m *LockRequest) Reset()         { *m = LockRequest{} }
func (m *LockRequest) String() string { return text(m) }
func (*LockRequest) ProtoMessage()    {}

// ProtoReflect implements proto.Message.
func (m *LockRequest) ProtoReflect() protoreflect.Message { return lockRequestInfo.MessageOf(m) }

// LockResponse names the key that exists as long as the lock is held.
type LockResponse struct {
	XXX_unrecognized []byte `json:"-"` // fields of a newer version, kept

	Header *pb.ResponseHeader `protobuf:"bytes,1,opt,name=header,proto3" json:"header,omitempty"`
	Key    []byte             `protobuf:"bytes,2,opt,name=key,proto3" json:"key,omitempty"`
}

func (m *LockResponse) Reset()         { *m = LockResponse{} }
func (m *LockResponse) String() string { return text(m) }
func (*LockResponse) ProtoMessage()    {}

// ProtoReflect implements proto.Message.
func (m *LockResponse) ProtoReflect() protoreflect.Message { return lockResponseInfo.MessageOf(m) }

// UnlockRequest gives up the lock of a key.
type UnlockRequest struct {
	XXX_unrecognized []byte `json:"-"` // fields of a newer version, kept

	Key []byte `protobuf:"bytes,1,opt,name=key,proto3" json:"key,omitempty"`
}

func (m *UnlockRequest) Reset()         { *m = UnlockRequest{} }
func (m *UnlockRequest) String() string { return text(m) }
func (*UnlockRequest) ProtoMessage()    {}

// ProtoReflect implements proto.Message.
func (m *UnlockRequest) ProtoReflect() protoreflect.Message { return unlockRequestInfo.MessageOf(m) }

// UnlockResponse says that the lock is given up.
type UnlockResponse struct {
	XXX_unrecognized []byte `json:"-"` // fields of a newer version, kept

	Header *pb.ResponseHeader `protobuf:"bytes,1,opt,name=header,proto3" json:"header,omitempty"`
}

func (m *UnlockResponse) Reset()         { *m = UnlockResponse{} }
func (m *UnlockResponse) String() string { return text(m) }
func (*UnlockResponse) ProtoMessage()    {}

// ProtoReflect implements proto.Message.
func (m *UnlockResponse) ProtoReflect() protoreflect.Message { return unlockResponseInfo.MessageOf(m) }
