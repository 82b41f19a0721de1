// The work of this experiment in Go, with its bytebufferpool, without giving back, and with a sync.Pool
// that has no cap. Prints the metrics of one window as a line of JSON.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/valyala/bytebufferpool"
)

// Operations between two looks at the clock.
const turnOperations = 256

const kibibyte = 1024

// What both kinds of buffer can do.
type buffer interface {
	Write(p []byte) (int, error)
	Len() int
}

type way struct {
	get func() buffer
	put func(buffer)
}

var uncapped = sync.Pool{New: func() interface{} { return new(bytes.Buffer) }}

var ways = map[string]way{
	"put": {
		get: func() buffer { return bytebufferpool.Get() },
		put: func(b buffer) { bytebufferpool.Put(b.(*bytebufferpool.ByteBuffer)) },
	},
	"not-put": {
		get: func() buffer { return bytebufferpool.Get() },
		put: func(buffer) {},
	},
	"sync-pool": {
		get: func() buffer { return uncapped.Get().(*bytes.Buffer) },
		put: func(b buffer) {
			b.(*bytes.Buffer).Reset()
			uncapped.Put(b)
		},
	},
}

type plan struct {
	Together   int `json:"together"`
	Bytes      int `json:"bytes"`
	LargeBytes int `json:"largeBytes"`
	LargeEvery int `json:"largeEvery"`
}

type work struct {
	plan
	way
	data  []byte
	large []byte
	open  []buffer
	done  int
	total int
}

func newWork(p plan, w way) *work {
	return &work{
		plan:  p,
		way:   w,
		data:  bytes.Repeat([]byte{'l'}, p.Bytes),
		large: bytes.Repeat([]byte{'l'}, p.LargeBytes),
		open:  make([]buffer, 0, p.Together),
	}
}

// One buffer got and written; when as many as belong together are open, all are put back.
func (w *work) operate() {
	w.fill()
	if len(w.open) == w.Together {
		w.putAll()
	}
}

func (w *work) fill() {
	b := w.get()
	w.done++
	if w.LargeEvery > 0 && w.done%w.LargeEvery == 0 {
		b.Write(w.large)
	} else {
		b.Write(w.data)
	}
	w.total += b.Len()
	w.open = append(w.open, b)
}

func (w *work) putAll() {
	for i, b := range w.open {
		w.put(b)
		w.open[i] = nil
	}
	w.open = w.open[:0]
}

func (w *work) spin(seconds float64) (operations int, took time.Duration) {
	start := time.Now()
	for took.Seconds() < seconds {
		for i := 0; i < turnOperations; i++ {
			w.operate()
		}
		operations += turnOperations
		took = time.Since(start)
	}
	return operations, took
}

func main() {
	var p plan
	if err := json.Unmarshal([]byte(os.Args[2]), &p); err != nil {
		panic(err)
	}
	w := newWork(p, ways[os.Args[1]])
	warmup, duration := seconds(os.Args[3]), seconds(os.Args[4])

	w.spin(warmup)
	resetPeak()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	cpuBefore, faultsBefore := usage()
	total := w.total
	operations, took := w.spin(duration)
	cpuAfter, faultsAfter := usage()
	runtime.ReadMemStats(&after)
	peak := peakBytes()

	w.putAll()
	empty := liveBytes()
	for len(w.open) < p.Together {
		w.fill()
	}
	full := liveBytes()
	runtime.KeepAlive(w)

	cpu := (cpuAfter - cpuBefore).Seconds()
	line, err := json.Marshal(map[string]float64{
		"nsPerOperation":      float64(took.Nanoseconds()) / float64(operations),
		"bytesPerSecond":      float64(w.total-total) / took.Seconds(),
		"rssPeakBytes":        peak,
		"rssMeanBytes":        peak,
		"gcCount":             float64(after.NumGC - before.NumGC),
		"gcTimeMs":            float64(after.PauseTotalNs-before.PauseTotalNs) / 1e6,
		"cpuMicrosPerRequest": cpu * 1e6 / float64(operations),
		"serverCpuShare":      cpu / took.Seconds(),
		"minorPageFaults":     float64(faultsAfter - faultsBefore),
		"allocBytes":          float64(after.TotalAlloc - before.TotalAlloc),
		"freshBytesPerSecond": float64(after.TotalAlloc-before.TotalAlloc) / took.Seconds(),
		"inUseBytes":          empty,
		"heldEmptyBytes":      empty,
		"heldFullBytes":       full,
	})
	if err != nil {
		panic(err)
	}
	fmt.Println(string(line))
}

func seconds(text string) float64 {
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		panic(err)
	}
	return value
}

// What lives, pools included: of a sync.Pool one collection takes nothing, only the second would.
func liveBytes() float64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return float64(stats.HeapAlloc)
}

func usage() (cpu time.Duration, faults int64) {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), int64(usage.Minflt)
}

// Has the kernel count the peak of the resident memory from here on; elsewhere than on Linux that is the
// peak since the start.
func resetPeak() {
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)
}

var highWater = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

func peakBytes() float64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		var usage syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
			panic(err)
		}
		return float64(usage.Maxrss)
	}
	match := highWater.FindSubmatch(status)
	kibibytes, err := strconv.ParseFloat(string(match[1]), 64)
	if err != nil {
		panic(err)
	}
	return kibibytes * kibibyte
}
