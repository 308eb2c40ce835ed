package files

import "io/fs"

// NoSync returns fsys with every sync left out: quick, and after a crash of the
// machine anything may be gone. For tests of what is above.
func NoSync(fsys FS) FS { return noSync{fsys} }

type noSync struct{ FS }

func (n noSync) SyncDir(string) error { return nil }

func (n noSync) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := n.FS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return noSyncFile{f}, nil
}

type noSyncFile struct{ File }

func (noSyncFile) Sync() error     { return nil }
func (noSyncFile) Datasync() error { return nil }
