// Go's bytebufferpool at the work of bench/byte-buffer.js. For each line on standard input it prints how
// many nanoseconds an operation took: get, 30,000 bytes written, the length read, and put, or not.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"time"

	"github.com/valyala/bytebufferpool"
)

const operations = 40000

func main() {
	data := bytes.Repeat([]byte("log"), 10000)
	put := os.Args[1] == "put"
	total := 0
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		start := time.Now()
		for i := 0; i < operations; i++ {
			buffer := bytebufferpool.Get()
			buffer.Write(data)
			total += buffer.Len()
			if put {
				bytebufferpool.Put(buffer)
			}
		}
		fmt.Println(float64(time.Since(start).Nanoseconds()) / operations)
	}
	if total%30000 != 0 {
		panic("a length was wrong")
	}
}
