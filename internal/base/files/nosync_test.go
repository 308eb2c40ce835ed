package files

import (
	"errors"
	"io/fs"
	"testing"
)

// Goal: without syncs everything works and nothing is durable. Method: write
// through the wrapper, then cut the power.
func TestNoSyncLosesEverything(t *testing.T) {
	mem := NewMem()
	fsys := NoSync(mem)
	if err := MkdirAllSync(fsys, "/d", PrivateDir); err != nil {
		t.Fatal(err)
	}
	if err := WriteFileAtomic(fsys, "/d/f", "/d/f.tmp", []byte("x"), PrivateFile); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadFile(fsys, "/d/f"); string(got) != "x" {
		t.Errorf("read %q, %v", got, err)
	}
	if _, err := mem.CrashClone(nil).Stat("/d/f"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is there after a power cut: %v", err)
	}
}
