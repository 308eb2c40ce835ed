package concurrencypb

import (
	"fmt"
	"reflect"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/runtime/protoimpl"
	"google.golang.org/protobuf/types/descriptorpb"
)

// field is one field of a message; of a message type if that is not nil.
type field struct {
	name string
	kind descriptorpb.FieldDescriptorProto_Type
	of   protoreflect.FullName
}

// fields are the fields of a message, numbered from 1.
type fields []field

// message is one message of a file: its name in its package and its fields.
type message struct {
	name   string
	fields fields
}

func bytesField(name string) field {
	return field{name: name, kind: descriptorpb.FieldDescriptorProto_TYPE_BYTES}
}

func int64Field(name string) field {
	return field{name: name, kind: descriptorpb.FieldDescriptorProto_TYPE_INT64}
}

func messageField(name string, of protoreflect.FullName) field {
	return field{name, descriptorpb.FieldDescriptorProto_TYPE_MESSAGE, of}
}

var (
	headerDesc   = (*pb.ResponseHeader)(nil).ProtoReflect().Descriptor()
	keyValueDesc = (*mvccpb.KeyValue)(nil).ProtoReflect().Descriptor()

	headerField = messageField("header", headerDesc.FullName())
)

// file builds the descriptor of a file that stands in no registry.
func file(pkg string, messages []message) protoreflect.FileDescriptor {
	f := &descriptorpb.FileDescriptorProto{
		Name: proto.String(pkg + ".proto"), Package: proto.String(pkg), Syntax: proto.String("proto3"),
		Dependency: []string{headerDesc.ParentFile().Path(), keyValueDesc.ParentFile().Path()},
	}
	for _, m := range messages {
		f.MessageType = append(f.MessageType, m.proto())
	}
	out, err := protodesc.NewFile(f, dependencies{})
	if err != nil {
		panic(fmt.Sprintf("concurrencypb: the table of %s is wrong: %v", pkg, err))
	}
	return out
}

func (m message) proto() *descriptorpb.DescriptorProto {
	out := &descriptorpb.DescriptorProto{Name: proto.String(m.name)}
	for i, f := range m.fields {
		d := &descriptorpb.FieldDescriptorProto{
			Name: proto.String(f.name), Number: proto.Int32(int32(i) + 1), Type: f.kind.Enum(),
			Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		}
		if f.of != "" {
			d.TypeName = proto.String("." + string(f.of))
		}
		out.Field = append(out.Field, d)
	}
	return out
}

// dependencies finds the two files of the api module that these import.
type dependencies struct{}

func (dependencies) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	for _, d := range []protoreflect.Descriptor{headerDesc, keyValueDesc} {
		if d.ParentFile().Path() == path {
			return d.ParentFile(), nil
		}
	}
	return nil, fmt.Errorf("no file %s", path)
}

func (dependencies) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	for _, d := range []protoreflect.Descriptor{headerDesc, keyValueDesc} {
		if d.FullName() == name {
			return d, nil
		}
	}
	return nil, fmt.Errorf("no message %s", name)
}

// info ties the struct that p points to with its description.
func info(f protoreflect.FileDescriptor, p proto.Message) *protoimpl.MessageInfo {
	t := reflect.TypeOf(p)
	desc := f.Messages().ByName(protoreflect.Name(t.Elem().Name()))
	return &protoimpl.MessageInfo{GoReflectType: t, Desc: desc}
}

// text is the short form of a message, for logs.
func text(m proto.Message) string { return protoimpl.X.MessageStringOf(m) }
