package rpc

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// toStatus turns an error of the product into the status a client of etcd
// expects. It is the only place where that happens.
//
// Cores return sentinels whose text is the one users know; the api module's
// table of texts gives the code. Some sentinels carry the text without the
// prefix that the wire adds. What is in no table is Unknown with its own text,
// as etcd answers it.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	if known, ok := unimplemented(err); ok {
		return known
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		if known, ok := knownStatus(e.Error()); ok {
			return known
		}
	}
	switch {
	case errors.Is(err, context.Canceled):
		return rpctypes.ErrGRPCCanceled
	case errors.Is(err, context.DeadlineExceeded):
		return rpctypes.ErrGRPCDeadlineExceeded
	}
	return status.Error(codes.Unknown, err.Error())
}

// unlisted are those that the api module defines without listing them in its
// table.
var unlisted = byText(
	rpctypes.ErrGRPCDeadlineExceeded,
	rpctypes.ErrGRPCInvalidClientAPIVersion,
	rpctypes.ErrGRPCPermissionNotGiven,
	rpctypes.ErrGRPCCanceled,
	rpctypes.ErrGRPCTimeoutWaitAppliedIndex,
	rpctypes.ErrGRPCWatchCanceled,
)

func byText(all ...error) map[string]error {
	m := map[string]error{}
	for _, e := range all {
		m[status.Convert(e).Message()] = e
	}
	return m
}

// knownStatus looks text up in the api module's table, with and without the
// prefix of the wire.
func knownStatus(text string) (error, bool) {
	for _, t := range []string{text, "etcdserver: " + text} {
		if e, ok := unlisted[t]; ok {
			return e, true
		}
		if e, ok := rpctypes.Error(errors.New(t)).(rpctypes.EtcdError); ok {
			return status.Error(e.Code(), t), true
		}
	}
	return nil, false
}
