// Package disktest gives tests of the storage packages the data directories that
// real etcd servers wrote. They live beside the repository; where they are
// missing the tests skip.
package disktest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"

	"github.com/steledb/stele/internal/base/files"
)

// folder finds shared/fixtures beside the repository's root.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return filepath.Join(filepath.Dir(dir), "shared", "fixtures")
		}
	}
	return ""
}

// Fixtures lists the data directories whose name matches pattern, such as
// "v3.7-*", and skips the test if there are none. Under the race detector, which
// makes unpacking ten times slower and looks for something else, it is only the
// last of them.
func Fixtures(t testing.TB, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(folder(t), pattern+".tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) == 0 {
		t.Skipf("no data directories of etcd like %s beside the repository", pattern)
	}
	var names []string
	for _, path := range paths {
		names = append(names, strings.TrimSuffix(filepath.Base(path), ".tar.gz"))
	}
	sort.Strings(names)
	if raceDetector {
		return names[len(names)-1:]
	}
	return names
}

// Expected reads <name>.expected.json: what a server must answer from the
// directory.
func Expected(t testing.TB, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(folder(t), name+".expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// Unpack puts the files of a data directory that keep accepts (nil: all) into a
// file system in memory, below "/", and returns it with the paths of its members'
// data directories.
func Unpack(t testing.TB, name string, keep func(path string) bool) (*files.Mem, []string) {
	t.Helper()
	f, err := os.Open(filepath.Join(folder(t), name+".tar.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	mem := files.NewMem()
	var members []string
	for archive := tar.NewReader(unzipped); ; {
		header, err := archive.Next()
		if err == io.EOF {
			return mem, members
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("/", header.Name)
		switch {
		case header.Typeflag == tar.TypeDir:
			if strings.HasSuffix(path, ".etcd") {
				members = append(members, path)
			}
			err = mem.MkdirAll(path, files.PrivateDir)
		case keep == nil || keep(path):
			err = unpackFile(mem, path, archive, header.Size)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// roomAfter is how many zeros in a log segment mean that only preallocated room
// follows. Reading all of it, gigabytes over all directories, would take most of
// the time of the tests.
const roomAfter = 1 << 20

// unpackFile leaves out the zeros that preallocated files are full of.
func unpackFile(mem *files.Mem, path string, from io.Reader, size int64) error {
	f, err := mem.OpenFile(path, files.ReadWrite|files.Create, files.PrivateFile)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		return err
	}
	chunk := make([]byte, 64<<10)
	zeros := make([]byte, len(chunk))
	zerosSeen, isSegment := 0, strings.HasSuffix(path, ".wal")
	for off := int64(0); off < size && !(isSegment && zerosSeen >= roomAfter); {
		n, err := io.ReadFull(from, chunk[:min(int64(len(chunk)), size-off)])
		if err != nil {
			return err
		}
		if bytes.Equal(chunk[:n], zeros[:n]) {
			zerosSeen += n
		} else if _, err := f.WriteAt(chunk[:n], off); err != nil {
			return err
		} else {
			zerosSeen = 0
		}
		off += int64(n)
	}
	return f.Sync()
}
