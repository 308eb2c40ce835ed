package files

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"testing/synctest"
)

// everyFS runs a story on each implementation: what the storage code may rely
// on must hold on all of them.
func everyFS(t *testing.T, story func(t *testing.T, fsys FS, dir string)) {
	t.Run("os", func(t *testing.T) { story(t, OS, t.TempDir()) })
	t.Run("mem", func(t *testing.T) { story(t, NewMem(), "/") })
	t.Run("faulty", func(t *testing.T) { story(t, NewFaulty(NewMem(), nil), "/") })
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
}

func wantContent(t *testing.T, fsys FS, name, want string) {
	t.Helper()
	got, err := ReadFile(fsys, name)
	must(t, err)
	if string(got) != want {
		t.Fatalf("%s holds %q, want %q", name, got, want)
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	everyFS(t, func(t *testing.T, fsys FS, dir string) {
		name := filepath.Join(dir, "f")
		f, err := fsys.OpenFile(name, ReadWrite|Create|Exclusive, PrivateFile)
		must(t, err)
		for _, s := range []string{"one ", "two ", "three"} {
			_, err := io.WriteString(f, s)
			must(t, err)
		}
		_, err = f.WriteAt([]byte("TWO"), 4)
		must(t, err)
		must(t, f.Datasync())
		must(t, f.Close())
		wantContent(t, fsys, name, "one TWO three")

		_, err = fsys.OpenFile(name, ReadWrite|Create|Exclusive, PrivateFile)
		wantErr(t, err, fs.ErrExist)
		_, err = Open(fsys, filepath.Join(dir, "missing"))
		wantErr(t, err, fs.ErrNotExist)
	})
}

func TestAppendGoesToTheEndAndRefusesWriteAt(t *testing.T) {
	everyFS(t, func(t *testing.T, fsys FS, dir string) {
		name := filepath.Join(dir, "f")
		must(t, WriteFile(fsys, name, []byte("start"), PrivateFile))
		f, err := fsys.OpenFile(name, WriteOnly|Append, 0)
		must(t, err)
		defer f.Close()
		_, err = io.WriteString(f, " end")
		must(t, err)
		if _, err := f.WriteAt([]byte("x"), 0); err == nil {
			t.Fatal("WriteAt on an appending file worked")
		}
		wantContent(t, fsys, name, "start end")
	})
}

func TestTruncateAndPreallocateShowZeros(t *testing.T) {
	everyFS(t, func(t *testing.T, fsys FS, dir string) {
		name := filepath.Join(dir, "f")
		f, err := fsys.OpenFile(name, ReadWrite|Create, PrivateFile)
		must(t, err)
		defer f.Close()
		_, err = io.WriteString(f, "0123456789")
		must(t, err)
		must(t, f.Truncate(4))
		must(t, f.Preallocate(8))
		wantContent(t, fsys, name, "0123\x00\x00\x00\x00")
		must(t, f.Preallocate(2)) // never shrinks
		info, err := f.Stat()
		must(t, err)
		if info.Size() != 8 {
			t.Fatalf("size is %d after a smaller preallocation, want 8", info.Size())
		}
		must(t, f.Sync())
	})
}

func TestReadAtSaysWhereTheFileEnds(t *testing.T) {
	everyFS(t, func(t *testing.T, fsys FS, dir string) {
		name := filepath.Join(dir, "f")
		must(t, WriteFile(fsys, name, []byte("abcdef"), PrivateFile))
		f, err := Open(fsys, name)
		must(t, err)
		defer f.Close()
		buf := make([]byte, 4)
		n, err := f.ReadAt(buf, 4)
		if n != 2 || err != io.EOF {
			t.Fatalf("ReadAt over the end: %d bytes, %v; want 2, EOF", n, err)
		}
		all, err := io.ReadAll(f)
		must(t, err)
		if string(all) != "abcdef" {
			t.Fatalf("sequential read gave %q", all)
		}
	})
}

func TestNamesAndDirectories(t *testing.T) {
	everyFS(t, func(t *testing.T, fsys FS, dir string) {
		deep := filepath.Join(dir, "a", "b")
		must(t, MkdirAllSync(fsys, deep, PrivateDir))
		must(t, fsys.MkdirAll(deep, PrivateDir))
		must(t, WriteFile(fsys, filepath.Join(deep, "2"), []byte("two"), PrivateFile))
		must(t, WriteFile(fsys, filepath.Join(deep, "1"), []byte("one"), PrivateFile))
		must(t, fsys.Rename(filepath.Join(deep, "2"), filepath.Join(deep, "1")))
		must(t, fsys.SyncDir(deep))
		wantContent(t, fsys, filepath.Join(deep, "1"), "two")

		if err := fsys.Remove(deep); err == nil {
			t.Fatal("removed a directory with a file in it")
		}
		must(t, fsys.Rename(deep, filepath.Join(dir, "moved")))
		entries, err := fsys.ReadDir(filepath.Join(dir, "moved"))
		must(t, err)
		if len(entries) != 1 || entries[0].Name() != "1" || entries[0].IsDir() {
			t.Fatalf("moved directory lists %v", entries)
		}
		must(t, fsys.RemoveAll(filepath.Join(dir, "moved")))
		must(t, fsys.RemoveAll(filepath.Join(dir, "moved")))
		_, err = fsys.Stat(filepath.Join(dir, "moved"))
		wantErr(t, err, fs.ErrNotExist)
		_, err = fsys.ReadDir(filepath.Join(dir, "moved"))
		wantErr(t, err, fs.ErrNotExist)
	})
}

func TestLocksExcludeInOneProcess(t *testing.T) {
	everyFS(t, func(t *testing.T, fsys FS, dir string) {
		name := filepath.Join(dir, "f")
		first, err := fsys.OpenFile(name, ReadWrite|Create, PrivateFile)
		must(t, err)
		second, err := fsys.OpenFile(name, ReadWrite, PrivateFile)
		must(t, err)
		defer second.Close()
		must(t, first.TryLock())
		wantErr(t, second.TryLock(), ErrLocked)
		must(t, first.Close())
		must(t, second.TryLock())
	})
}

func TestLockWaitsForTheOwner(t *testing.T) {
	// Under synctest, Wait returns once the waiter is truly blocked.
	synctest.Test(t, func(t *testing.T) {
		m := NewMem()
		owner, err := m.OpenFile("f", ReadWrite|Create, PrivateFile)
		must(t, err)
		must(t, owner.Lock())
		waiter, err := m.OpenFile("f", ReadWrite, 0)
		must(t, err)
		got := make(chan error, 1)
		go func() { got <- waiter.Lock() }()
		synctest.Wait()
		select {
		case err := <-got:
			t.Fatalf("lock was granted twice: %v", err)
		default:
		}
		must(t, owner.Close())
		must(t, <-got)
	})
}

func TestWriteFileAtomicLeavesNoTrace(t *testing.T) {
	everyFS(t, func(t *testing.T, fsys FS, dir string) {
		name := filepath.Join(dir, "f")
		must(t, WriteFileAtomic(fsys, name, name+".tmp", []byte("old"), PrivateFile))
		must(t, WriteFileAtomic(fsys, name, name+".tmp", []byte("new"), PrivateFile))
		wantContent(t, fsys, name, "new")
		ok, err := Exists(fsys, name+".tmp")
		must(t, err)
		if ok {
			t.Fatal("temporary file is still there")
		}
	})
}

// Mem and the real file system are given the same random operations and must
// show the same bytes.
func TestMemIsTheTwinOfOS(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	dir := t.TempDir()
	m := NewMem()
	a, err := OS.OpenFile(filepath.Join(dir, "f"), ReadWrite|Create, PrivateFile)
	must(t, err)
	defer a.Close()
	b, err := m.OpenFile("f", ReadWrite|Create, PrivateFile)
	must(t, err)
	for step := range 400 {
		off := rng.Int64N(30000)
		data := bytes.Repeat([]byte{byte(step) | 1}, rng.IntN(9000))
		both := func(op func(File) error) { must(t, op(a)); must(t, op(b)) }
		switch rng.IntN(6) {
		case 0:
			both(func(f File) error { return f.Truncate(off) })
		case 1:
			both(func(f File) error { return f.Preallocate(off) })
		case 2:
			both(func(f File) error { return f.Sync() })
		default:
			both(func(f File) error { _, err := f.WriteAt(data, off); return err })
		}
		x, err := ReadFile(OS, filepath.Join(dir, "f"))
		must(t, err)
		y, err := ReadFile(m, "f")
		must(t, err)
		if !bytes.Equal(x, y) {
			t.Fatalf("step %d: contents differ (%d and %d bytes)", step, len(x), len(y))
		}
	}
}

// After a crash every synced sector that was not written since is there, and
// every other sector shows one of the states it went through.
func TestCrashKeepsSyncedSectorsAndTearsTheRest(t *testing.T) {
	const sectors = 40
	sectorAt := func(content []byte, i int) string {
		from := min(i*SectorSize, len(content))
		return string(content[from:min(from+SectorSize, len(content))])
	}
	torn := false
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 0))
		m := NewMem()
		f, err := m.OpenFile("f", ReadWrite|Create, PrivateFile)
		must(t, err)
		must(t, m.SyncDir("/"))
		must(t, f.Preallocate(sectors*SectorSize))
		must(t, f.Sync())

		history := make([]map[string]bool, sectors)
		note := func(forget bool) {
			content, err := ReadFile(m, "f")
			must(t, err)
			for i := range history {
				if history[i] == nil || forget {
					history[i] = map[string]bool{}
				}
				history[i][sectorAt(content, i)] = true
			}
		}
		note(true)
		for step := range 12 {
			data := bytes.Repeat([]byte{byte(step + 1)}, 1+rng.IntN(4000))
			_, err := f.WriteAt(data, rng.Int64N(sectors*SectorSize-4000))
			must(t, err)
			note(false)
			if rng.IntN(4) == 0 {
				must(t, f.Sync())
				note(true)
			}
		}
		live, err := ReadFile(m, "f")
		must(t, err)
		left, err := ReadFile(m.CrashClone(rng), "f")
		must(t, err)
		if len(left) != sectors*SectorSize {
			t.Fatalf("seed %d: %d bytes are left of a synced size of %d", seed, len(left), sectors*SectorSize)
		}
		for i := range history {
			if !history[i][sectorAt(left, i)] {
				t.Fatalf("seed %d: sector %d shows a state it never had", seed, i)
			}
			torn = torn || len(history[i]) > 1 && sectorAt(left, i) != sectorAt(live, i)
		}
	}
	if !torn {
		t.Fatal("no crash lost anything: the test looks at nothing")
	}
}

func TestCrashWithoutChanceLosesAllUnsynced(t *testing.T) {
	m := NewMem()
	must(t, WriteFile(m, "kept", []byte("synced"), PrivateFile))
	must(t, WriteFile(m, "nameless", []byte("synced, but its name is not"), PrivateFile))
	must(t, m.Remove("nameless"))
	must(t, m.SyncDir("/"))
	f, err := m.OpenFile("kept", WriteOnly, 0)
	must(t, err)
	_, err = io.WriteString(f, "SYNCED")
	must(t, err)
	must(t, WriteFile(m, "new", []byte("x"), PrivateFile))

	left := m.CrashClone(nil)
	wantContent(t, left, "kept", "synced")
	for _, name := range []string{"new", "nameless"} {
		_, err = left.Stat(name)
		wantErr(t, err, fs.ErrNotExist)
	}
	wantContent(t, m, "kept", "SYNCED") // the original goes on
}

// An unsynced rename is found done or undone, never half: under the new name is
// the old or the new file, whole.
func TestCrashFindsRenameDoneOrNot(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(100) {
		m := NewMem()
		must(t, WriteFileAtomic(m, "f", "f.tmp", []byte("old"), PrivateFile))
		must(t, WriteFile(m, "f.tmp", []byte("new"), PrivateFile))
		must(t, m.Rename("f.tmp", "f"))
		left := m.CrashClone(rand.New(rand.NewPCG(seed, 7)))
		content, err := ReadFile(left, "f")
		must(t, err)
		seen[string(content)]++
	}
	if len(seen) != 2 || seen["old"] == 0 || seen["new"] == 0 {
		t.Fatalf("found %v, want only old and new, both", seen)
	}
}

func TestCrashOfOneSeedIsRepeatable(t *testing.T) {
	m := NewMem()
	f, err := m.OpenFile("f", ReadWrite|Create, PrivateFile)
	must(t, err)
	for i := range 20 {
		_, err := f.WriteAt(bytes.Repeat([]byte{byte(i + 1)}, 5000), int64(i)*3000)
		must(t, err)
		must(t, f.Truncate(int64(i+1)*4000))
		must(t, WriteFile(m, fmt.Sprint("x", i), nil, PrivateFile))
	}
	snapshot := func() string {
		left := m.CrashClone(rand.New(rand.NewPCG(3, 4)))
		content, _ := ReadFile(left, "f")
		names, err := left.ReadDir("/")
		must(t, err)
		return fmt.Sprint(names, content)
	}
	if first, second := snapshot(), snapshot(); first != second {
		t.Fatal("one seed gave two crashes")
	}
}

func TestFaultyFailsTheChosenOperation(t *testing.T) {
	broken := errors.New("broken")
	f := NewFaulty(NewMem(), FailNth(2, broken, OpSync))
	must(t, WriteFile(f, "a", []byte("1"), PrivateFile))
	wantErr(t, WriteFile(f, "b", []byte("2"), PrivateFile), broken)
	must(t, WriteFile(f, "c", []byte("3"), PrivateFile))

	f.Inject(OnPath("c", FailNth(1, broken, OpRename)))
	must(t, f.Rename("a", "a2"))
	wantErr(t, f.Rename("c", "c2"), broken)
	wantContent(t, f, "c", "3")
}

func TestFullDiskTakesAPartOfTheLastWrite(t *testing.T) {
	f := NewFaulty(NewMem(), NoSpaceAfter(6))
	must(t, WriteFile(f, "a", []byte("1234"), PrivateFile))
	wantErr(t, WriteFile(f, "b", []byte("5678"), PrivateFile), ErrNoSpace)
	wantContent(t, f, "b", "56")
	wantErr(t, WriteFile(f, "c", []byte("9"), PrivateFile), ErrNoSpace)
	f.Inject(nil)
	must(t, WriteFile(f, "c", []byte("9"), PrivateFile))
}
