// The recipe for GORM, tried with the real library: makes a table, inserts rows into it, or counts
// them. Several processes insert at the same time.
package main

import (
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"sync"

	tickr "example.org/tickr/clients/go"
	"github.com/jinzhu/gorm"
	_ "github.com/jinzhu/gorm/dialects/mysql"
)

const goroutines = 5

// The one client of the program.
var tickets = must(tickr.New(strings.Split(os.Getenv("TICKR_SERVERS"), ","), tickr.WithCache(1000)))

func main() {
	switch os.Args[1] {
	case "prepare":
		check(open("").Exec("CREATE DATABASE recipe_gorm").Error)
		check(open("recipe_gorm").CreateTable(&Order{}).Error)
	case "insert":
		insert(open("recipe_gorm"), must(strconv.Atoi(os.Args[2])))
	case "count":
		var rows, ids int
		row := open("recipe_gorm").Raw("SELECT COUNT(*), COUNT(DISTINCT id) FROM orders").Row()
		check(row.Scan(&rows, &ids))
		fmt.Printf("%d rows, %d ids\n", rows, ids)
	}
}

func insert(db *gorm.DB, rows int) {
	var done sync.WaitGroup
	for number := 0; number < goroutines; number++ {
		done.Add(1)
		go func() {
			defer done.Done()
			for row := 0; row < rows/goroutines; row++ {
				order := Order{Item: "a ticket"}
				check(db.Create(&order).Error)
				var found Order
				check(db.First(&found, order.ID).Error)
				if order.ID == 0 || found != order {
					log.Fatal(order, " was inserted as ", found)
				}
			}
		}()
	}
	done.Wait()
}

func open(database string) *gorm.DB {
	return must(gorm.Open("mysql", "tickr:tickr@unix("+os.Getenv("MYSQL_SOCKET")+")/"+database))
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
