package ids

import (
	"math"
	"sync"
	"testing"
	"time"
)

// The ids of the cluster that every guide starts with, as etcd derives them.
func TestKnownIDs(t *testing.T) {
	member := Member([]string{"http://localhost:2380"}, "etcd-cluster")
	if got := Text(member); got != "8e9e05c52164694d" {
		t.Errorf("member id is %s", got)
	}
	if got := Text(Cluster([]uint64{member})); got != "cdf818194e3a8c32" {
		t.Errorf("cluster id is %s", got)
	}
}

// Members list URLs and each other in any order and must agree all the same.
func TestOrderDoesNotMatter(t *testing.T) {
	a, b := "http://10.0.0.1:2380", "http://10.0.0.2:2380"
	if Member([]string{a, b}, "t") != Member([]string{b, a}, "t") {
		t.Error("member id depends on the order of URLs")
	}
	if Cluster([]uint64{3, 1, 2}) != Cluster([]uint64{1, 2, 3}) {
		t.Error("cluster id depends on the order of members")
	}
	urls := []string{b, a}
	Member(urls, "t")
	if urls[0] != b {
		t.Error("the caller's list was sorted in place")
	}
}

// A member that is added again a second later is another member.
func TestAddedMemberDependsOnTheSecond(t *testing.T) {
	urls, now := []string{"http://10.0.0.1:2380"}, time.Unix(1000, 0)
	if AddedMember(urls, now) != AddedMember(urls, now.Add(999*time.Millisecond)) {
		t.Error("ids differ within one second")
	}
	if AddedMember(urls, now) == AddedMember(urls, now.Add(time.Second)) {
		t.Error("ids are equal a second apart")
	}
}

func TestTextRoundTrip(t *testing.T) {
	for _, id := range []uint64{0, 1, 0xab, 0x00ff00ff00ff00ff, math.MaxUint64} {
		if back, err := Parse(Text(id)); err != nil || back != id {
			t.Errorf("%x came back as %x, %v", id, back, err)
		}
	}
	if Text(0xab) != "ab" {
		t.Error("the text form is padded")
	}
	for _, bad := range []string{"", "xyz", "-1", "10000000000000000"} {
		if _, err := Parse(bad); err == nil {
			t.Errorf("%q was taken for an id", bad)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("8e9e05c52164694d")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		id, err := Parse(text)
		if err != nil {
			return
		}
		if back, err := Parse(Text(id)); err != nil || back != id {
			t.Fatalf("%q: %x came back as %x, %v", text, id, back, err)
		}
	})
}

// The parts stand where a reader of a dump expects them.
func TestGeneratorLayout(t *testing.T) {
	g := NewGenerator(0x123456, time.UnixMilli(0xff_89abcdef01))
	if got := g.Next(); got != 0x3456_89abcdef01_01 {
		t.Errorf("first id is %x", got)
	}
	if got := g.Next(); got != 0x3456_89abcdef01_02 {
		t.Errorf("second id is %x", got)
	}
}

// When the time part is full the suffix starts over and leaves the member alone.
func TestGeneratorSuffixWraps(t *testing.T) {
	g := NewGenerator(1, time.UnixMilli(1<<timeBits-1))
	for range 256 {
		g.Next()
	}
	if got := g.Next(); got>>suffixBits != 1 || got&0xff != 1 {
		t.Errorf("id after the wrap is %x", got)
	}
}

// Neither goroutines nor a restart a millisecond later see an id twice.
func TestGeneratedIDsAreUnique(t *testing.T) {
	start := time.UnixMilli(1700000000000)
	first, second := NewGenerator(7, start), NewGenerator(7, start.Add(time.Millisecond))
	var mu sync.Mutex
	seen := map[uint64]bool{}
	var wg sync.WaitGroup
	for _, g := range []*Generator{first, first, second} {
		wg.Go(func() {
			for range 100 {
				id := g.Next()
				mu.Lock()
				if seen[id] {
					t.Errorf("%x was handed out twice", id)
				}
				seen[id] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestLeaseIDsArePositive(t *testing.T) {
	g := NewGenerator(math.MaxUint64, time.UnixMilli(0))
	for range 300 {
		if id := g.NextLease(); id <= 0 {
			t.Fatalf("lease id %d", id)
		}
	}
	zero := NewGenerator(0, time.UnixMilli(1<<timeBits-1))
	zero.suffix.Store(1<<suffixBits - 1) // the next suffix is 0, and with this member the whole id
	if id := zero.NextLease(); id != 1 {
		t.Errorf("lease id %d, want the 0 to be skipped", id)
	}
}
