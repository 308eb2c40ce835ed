package etcdcmd

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
)

// Kinds of data directory, as the startup lines name them.
const (
	dirEmpty  = "empty"
	dirMember = "member"
	dirProxy  = "proxy"
)

var errProxyDir = errors.New("data directory of the v2 proxy")

// announce says whether the member starts afresh or goes on, and refuses
// directories that are not a member's.
func announce(log *slog.Logger, dir string) error {
	kind, err := identify(log, dir)
	switch {
	case err != nil:
		fatal(log, "failed to list data directory", "dir", dir, "error", err)
		return err
	case kind == dirProxy:
		fatal(log, "v2 http proxy has already been deprecated in 3.6", "dir-type", kind)
		return errProxyDir
	case kind == dirMember:
		log.Info("server has already been initialized", "data-dir", dir, "dir-type", kind)
	default:
		log.Info("Initialize and start etcd server", "data-dir", dir, "dir-type", kind)
	}
	return nil
}

// identify tells what a data directory holds by the names in it.
func identify(log *slog.Logger, dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return dirEmpty, nil
	}
	if err != nil {
		return "", err
	}
	var member, proxy bool
	for _, e := range entries {
		switch e.Name() {
		case dirMember:
			member = true
		case dirProxy:
			proxy = true
		default:
			log.Warn("found invalid file under data directory", "filename", e.Name(), "data-dir", dir)
		}
	}
	switch {
	case member && proxy:
		return "", fmt.Errorf("invalid datadir; both %s and %s directories exist", dirMember, dirProxy)
	case member:
		return dirMember, nil
	case proxy:
		return dirProxy, nil
	}
	return dirEmpty, nil
}
