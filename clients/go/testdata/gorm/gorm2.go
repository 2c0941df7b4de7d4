//go:build gorm2

package main

import (
	"gorm.io/driver/mysql"
	"gorm.io/gorm"
)

// Order is a model whose primary key is a ticket.
type Order struct {
	ID   uint64 `gorm:"primaryKey;autoIncrement:false"`
	Item string `gorm:"not null"`
}

// BeforeCreate is called by GORM for each row, also for those of a batch.
func (order *Order) BeforeCreate(tx *gorm.DB) (err error) {
	order.ID, err = tickets.Next(tx.Statement.Context)
	return err
}

// DB is a connection.
type DB = gorm.DB

const rowsAtOnce = 50

func open(database string) *DB {
	return must(gorm.Open(mysql.Open(source(database)), &gorm.Config{}))
}

func createTable(db *DB, model any) error { return db.Migrator().CreateTable(model) }

func create(db *DB, orders []Order) error { return db.Create(orders).Error }
