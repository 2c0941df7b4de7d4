// The recipes for GORM 1 and (with the tag gorm2) GORM 2, tried with the real library: makes a
// table, inserts rows into it, or counts them. Several processes insert at the same time.
package main

import (
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"sync"

	tickr "example.org/tickr/clients/go"
)

const goroutines = 5

// The one client of the program.
var tickets = must(tickr.New(strings.Split(os.Getenv("TICKR_SERVERS"), ","), tickr.WithCache(1000)))

func main() {
	switch os.Args[1] {
	case "prepare":
		check(open("").Exec("CREATE DATABASE recipe_gorm").Error)
		check(createTable(open("recipe_gorm"), &Order{}))
	case "insert":
		insert(open("recipe_gorm"), must(strconv.Atoi(os.Args[2])))
	case "count":
		var rows, ids int
		row := open("recipe_gorm").Raw("SELECT COUNT(*), COUNT(DISTINCT id) FROM orders").Row()
		check(row.Scan(&rows, &ids))
		fmt.Printf("%d rows, %d ids\n", rows, ids)
	}
}

func insert(db *DB, rows int) {
	var done sync.WaitGroup
	for number := 0; number < goroutines; number++ {
		done.Add(1)
		go func() {
			defer done.Done()
			for inserted := 0; inserted < rows/goroutines; {
				orders := make([]Order, rowsAtOnce)
				for index := range orders {
					orders[index].Item = fmt.Sprint("number ", index)
				}
				check(create(db, orders))
				for _, order := range orders {
					var found Order
					check(db.First(&found, order.ID).Error)
					if order.ID == 0 || found != order {
						log.Fatal(order, " was inserted as ", found)
					}
				}
				inserted += len(orders)
			}
		}()
	}
	done.Wait()
}

func source(database string) string {
	return "tickr:tickr@unix(" + os.Getenv("MYSQL_SOCKET") + ")/" + database
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
