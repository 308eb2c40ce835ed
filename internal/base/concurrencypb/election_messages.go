package concurrencypb

import (
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/reflect/protoreflect"
)

var electionFile = file("v3electionpb", []message{
	{"CampaignRequest", fields{bytesField("name"), int64Field("lease"), bytesField("value")}},
	{"CampaignResponse", fields{headerField, messageField("leader", "v3electionpb.LeaderKey")}},
	{"LeaderKey", fields{bytesField("name"), bytesField("key"), int64Field("rev"), int64Field("lease")}},
	{"LeaderRequest", fields{bytesField("name")}},
	{"LeaderResponse", fields{headerField, messageField("kv", keyValueDesc.FullName())}},
	{"ResignRequest", fields{messageField("leader", "v3electionpb.LeaderKey")}},
	{"ResignResponse", fields{headerField}},
	{"ProclaimRequest", fields{messageField("leader", "v3electionpb.LeaderKey"), bytesField("value")}},
	{"ProclaimResponse", fields{headerField}},
})

var (
	campaignRequestInfo  = info(electionFile, (*CampaignRequest)(nil))
	campaignResponseInfo = info(electionFile, (*CampaignResponse)(nil))
	leaderKeyInfo        = info(electionFile, (*LeaderKey)(nil))
	leaderRequestInfo    = info(electionFile, (*LeaderRequest)(nil))
	leaderResponseInfo   = info(electionFile, (*LeaderResponse)(nil))
	resignRequestInfo    = info(electionFile, (*ResignRequest)(nil))
	resignResponseInfo   = info(electionFile, (*ResignResponse)(nil))
	proclaimRequestInfo  = info(electionFile, (*ProclaimRequest)(nil))
	proclaimResponseInfo = info(electionFile, (*ProclaimResponse)(nil))
)

// CampaignRequest asks to become the leader of the election name, with a value that all can see.
type CampaignRequest struct {
	XXX_unrecognized []byte `json:"-"` // fields of a newer version, kept

	Name  []byte `protobuf:"bytes,1,opt,name=name,proto3" json:"name,omitempty"`
	Lease int64  `protobuf:"varint,2,opt,name=lease,proto3" json:"lease,omitempty"`
	Value []byte `protobuf:"bytes,3,opt,name=value,proto3" json:"value,omitempty"`
}

func (m *CampaignRequest) Reset()         { *m = CampaignRequest{} }
func (m *CampaignRequest) String() string { return text(m) }
func (*CampaignRequest) ProtoMessage()    {}

// ProtoReflect implements proto.Message.
func (m *CampaignRequest) ProtoReflect() protoreflect.Message {
	return campaignRequestInfo.MessageOf(m)
}

// CampaignResponse says that the caller leads.
type CampaignResponse struct {
	XXX_unrecognized []byte `json:"-"` // fields of a newer version, kept

	Header *pb.ResponseHeader `protobuf:"bytes,1,opt,name=header,proto3" json:"header,omitempty"`
	Leader *LeaderKey         `protobuf:"bytes,2,opt,name=leader,proto3" json:"leader,omitempty"`
}

func (m *CampaignResponse) Reset()         { *m = CampaignResponse{} }
func (m *CampaignResponse) String() string { return text(m) }
func (*CampaignResponse) ProtoMessage()    {}

// ProtoReflect implements proto.Message.
func (m *CampaignResponse) ProtoReflect() protoreflect.Message {
	return campaignResponseInfo.MessageOf(m)
}

// LeaderKey identifies one leadership: the key of the election and its create revision.
type LeaderKey struct {
	XXX_unrecognized []byte `json:"-"` // fields of a newer version, kept

	Name  []byte `protobuf:"bytes,1,opt,name=name,proto3" json:"name,omitempty"`
	Key   []byte `protobuf:"bytes,2,opt,name=key,proto3" json:"key,omitempty"`
	Rev   int64  `protobuf:"varint,3,opt,name=rev,proto3" json:"rev,omitempty"`
	Lease int64  `protobuf:"varint,4,opt,name=lease,proto3" json:"lease,omitempty"`
}

func (m *LeaderKey) Reset()         { *m = LeaderKey{} }
func (m *LeaderKey) String() string { return text(m) }
func (*LeaderKey) ProtoMessage()    {}

// ProtoReflect implements proto.Message.
func (m *LeaderKey) ProtoReflect() protoreflect.Message { return leaderKeyInfo.MessageOf(m) }

// LeaderRequest asks who leads, once or, in Observe, from now on.
type LeaderRequest struct {
	XXX_unrecognized []byte `json:"-"` // fields of a newer version, kept

	Name []byte `protobuf:"bytes,1,opt,name=name,proto3" json:"name,omitempty"`
}

func (m *LeaderRequest) Reset()         { *m = LeaderRequest{} }
func (m *LeaderRequest) String() string { return text(m) }
func (*LeaderRequest) ProtoMessage()    {}

// ProtoReflect implements proto.Message.
func (m *LeaderRequest) ProtoReflect() protoreflect.Message { return leaderRequestInfo.MessageOf(m) }

// LeaderResponse is the leader's key with its value.
type LeaderResponse struct {
	XXX_unrecognized []byte `json:"-"` // fields of a newer version, kept

	Header *pb.ResponseHeader `protobuf:"bytes,1,opt,name=header,proto3" json:"header,omitempty"`
	Kv     *mvccpb.KeyValue   `protobuf:"bytes,2,opt,name=kv,proto3" json:"kv,omitempty"`
}

func (m *LeaderResponse) Reset()         { *m = LeaderResponse{} }
func (m *LeaderResponse) String() string { return text(m) }
func (*LeaderResponse) ProtoMessage()    {}

// ProtoReflect implements proto.Message.
func (m *LeaderResponse) ProtoReflect() protoreflect.Message { return leaderResponseInfo.MessageOf(m) }

// ResignRequest gives up a leadership.
type ResignRequest struct {
	XXX_unrecognized []byte `json:"-"` // fields of a newer version, kept

	Leader *LeaderKey `protobuf:"bytes,1,opt,name=leader,proto3" json:"leader,omitempty"`
}

func (m *ResignRequest) Reset()         { *m = ResignRequest{} }
func (m *ResignRequest) String() string { return text(m) }
func (*ResignRequest) ProtoMessage()    {}

// ProtoReflect implements proto.Message.
func (m *ResignRequest) ProtoReflect() protoreflect.Message { return resignRequestInfo.MessageOf(m) }

// ResignResponse says that the leadership is over.
type ResignResponse struct {
	XXX_unrecognized []byte `json:"-"` // fields of a newer version, kept

	Header *pb.ResponseHeader `protobuf:"bytes,1,opt,name=header,proto3" json:"header,omitempty"`
}

func (m *ResignResponse) Reset()         { *m = ResignResponse{} }
func (m *ResignResponse) String() string { return text(m) }
func (*ResignResponse) ProtoMessage()    {}

// ProtoReflect implements proto.Message.
func (m *ResignResponse) ProtoReflect() protoreflect.Message { return resignResponseInfo.MessageOf(m) }

// ProclaimRequest changes the value of a leadership.
type ProclaimRequest struct {
	XXX_unrecognized []byte `json:"-"` // fields of a newer version, kept

	Leader *LeaderKey `protobuf:"bytes,1,opt,name=leader,proto3" json:"leader,omitempty"`
	Value  []byte     `protobuf:"bytes,2,opt,name=value,proto3" json:"value,omitempty"`
}

func (m *ProclaimRequest) Reset()         { *m = ProclaimRequest{} }
func (m *ProclaimRequest) String() string { return text(m) }
func (*ProclaimRequest) ProtoMessage()    {}

// ProtoReflect implements proto.Message.
func (m *ProclaimRequest) ProtoReflect() protoreflect.Message {
	return proclaimRequestInfo.MessageOf(m)
}

// ProclaimResponse says that the value is changed.
type ProclaimResponse struct {
	XXX_unrecognized []byte `json:"-"` // fields of a newer version, kept

	Header *pb.ResponseHeader `protobuf:"bytes,1,opt,name=header,proto3" json:"header,omitempty"`
}

func (m *ProclaimResponse) Reset()         { *m = ProclaimResponse{} }
func (m *ProclaimResponse) String() string { return text(m) }
func (*ProclaimResponse) ProtoMessage()    {}

// ProtoReflect implements proto.Message.
func (m *ProclaimResponse) ProtoReflect() protoreflect.Message {
	return proclaimResponseInfo.MessageOf(m)
}
