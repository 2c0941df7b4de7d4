//go:build !gorm2

package main

import (
	"context"

	"github.com/jinzhu/gorm"
	_ "github.com/jinzhu/gorm/dialects/mysql"
)

// Order is a model whose primary key is a ticket.
type Order struct {
	ID   uint64 `gorm:"primary_key;auto_increment:false"`
	Item string `gorm:"not null"`
}

// BeforeCreate is called by GORM for each row.
func (order *Order) BeforeCreate(*gorm.DB) (err error) {
	order.ID, err = tickets.Next(context.Background())
	return err
}

// DB is a connection.
type DB = gorm.DB

const rowsAtOnce = 1 // It has no batches.

func open(database string) *DB { return must(gorm.Open("mysql", source(database))) }

func createTable(db *DB, model any) error { return db.CreateTable(model).Error }

func create(db *DB, orders []Order) error { return db.Create(&orders[0]).Error }
